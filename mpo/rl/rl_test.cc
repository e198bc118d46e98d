// SPDX-License-Identifier: Apache-2.0
// Figures are worked out by hand from the formulas in the headers. float32
// keeps about 7 digits, so values near 1 are compared to 1e-6.
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mpo/rl/aggregation.h"
#include "mpo/rl/gae.h"
#include "mpo/rl/grpo.h"
#include "mpo/rl/kl.h"
#include "mpo/rl/policy_loss.h"
#include "mpo/rl/reinforce_pp.h"
#include "mpo/rl/rloo.h"
#include "mpo/rl/value_loss.h"
#include "mpo/rl/whitening.h"

namespace mpo::rl {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

at::Tensor Row(std::vector<float> values) { return torch::tensor(values); }
at::Tensor Bools(std::vector<int> values) {
  return torch::tensor(values).to(torch::kBool);
}
at::Tensor Ids(std::vector<int64_t> values) { return torch::tensor(values); }

void CheckClose(const at::Tensor& actual, const at::Tensor& expected,
                double tolerance = 1e-6) {
  INFO("actual\n" << actual << "\nexpected\n" << expected);
  REQUIRE(actual.sizes() == expected.sizes());
  CHECK(at::allclose(actual, expected, tolerance, tolerance));
}

TEST_CASE("RLOO leaves the sample itself out of its baseline", "[rl]") {
  CheckClose(
      RlooAdvantages(Row({1, 1, 0, 0}), Bools({1, 1, 1, 1}), Ids({0, 0, 0, 0})),
      Row({2 / 3.f, 2 / 3.f, -2 / 3.f, -2 / 3.f}));
}

TEST_CASE("An unscorable sample enters no baseline", "[rl]") {
  // Two groups, interleaved; what stands in an unscorable reward is not read.
  const at::Tensor groups = Ids({0, 1, 0, 1, 0, 1, 0, 1});
  const at::Tensor rewards = Row({1, 3, kNan, 5, 0, 7, 0, 9});
  const at::Tensor scored = Bools({1, 1, 0, 1, 1, 1, 1, 1});
  CheckClose(RlooAdvantages(rewards, scored, groups).index({Ids({0, 2, 4, 6})}),
             Row({2 / 3.f * 1.5f, 0, -0.5f, -0.5f}));
  // [1, 1, 0, 0] with the second unscorable.
  CheckClose(
      RlooAdvantages(Row({1, 1, 0, 0}), Bools({1, 0, 1, 1}), Ids({0, 0, 0, 0})),
      RlooAdvantages(Row({1, kNan, 0, 0}), Bools({1, 0, 1, 1}),
                     Ids({0, 0, 0, 0})));
  for (auto* advantages : {RlooAdvantages, GrpoAdvantages, DrGrpoAdvantages}) {
    const at::Tensor all = advantages(rewards, scored, groups);
    const at::Tensor rows = Ids({0, 1, 3, 4, 5, 6, 7});
    const at::Tensor without = advantages(
        rewards.index({rows}), scored.index({rows}), groups.index({rows}));
    CheckClose(all.index({rows}), without);
    CHECK(all[2].item<float>() == 0);
  }
}

TEST_CASE("A sample that could not be scored is no zero", "[rl]") {
  // [1, 1, 0, 0] with the second unscorable: the mean is 1/3, not 1/4 or 1/2.
  for (auto* advantages : {DrGrpoAdvantages, ReinforcePlusPlusScores}) {
    CheckClose(advantages(Row({1, kNan, 0, 0}), Bools({1, 0, 1, 1}),
                          Ids({0, 0, 0, 0})),
               Row({2 / 3.f, 0, -1 / 3.f, -1 / 3.f}));
  }
}

TEST_CASE("A group with fewer than two scored samples has no advantage",
          "[rl]") {
  for (auto* advantages : {RlooAdvantages, GrpoAdvantages, DrGrpoAdvantages}) {
    CheckClose(
        advantages(Row({4, 1, 1, 9}), Bools({1, 0, 0, 1}), Ids({0, 0, 0, 1})),
        Row({0, 0, 0, 0}));
  }
}

TEST_CASE("GRPO divides by the sample standard deviation plus 1e-4", "[rl]") {
  // [1, 2, 3]: mean 2, std 1. [5, 5]: std 0, so 0 / 1e-4.
  CheckClose(GrpoAdvantages(Row({1, 2, 3, 5, 5}), Bools({1, 1, 1, 1, 1}),
                            Ids({0, 0, 0, 1, 1})),
             Row({-1 / 1.0001f, 0, 1 / 1.0001f, 0, 0}));
  // Batch [1, 2, 3, 5, 5]: mean 3.2, squares 12.8, so a deviation of
  // sqrt(3.2).
  CheckClose(
      GrpoBatchScaledAdvantages(Row({1, 2, 3, 5, 5}), Bools({1, 1, 1, 1, 1}),
                                Ids({0, 0, 0, 1, 1})),
      Row({-1, 0, 1, 0, 0}) / (std::sqrt(3.2) + 1e-4));
  CheckClose(DrGrpoAdvantages(Row({1, 2, 6}), Bools({1, 1, 1}), Ids({0, 0, 0})),
             Row({-2, -1, 3}));
}

TEST_CASE("Token rewards charge KL everywhere and pay the score at the end",
          "[rl]") {
  const at::Tensor mask = Bools({1, 1, 1, 1, 0, 0, 0, 0, 0}).view({3, 3});
  const at::Tensor kl =
      Row({1, 2, 3, 4, kNan, kNan, kNan, kNan, kNan}).view({3, 3});
  CheckClose(TokenRewards(Row({10, 20, kNan}), kl, 0.5, mask),
             Row({-.5, -1, 8.5, 18, 0, 0, 0, 0, 0}).view({3, 3}));
}

TEST_CASE(
    "A score behind the end has a position of its own where there is room",
    "[rl]") {
  // Lengths 3 (the longest: no room), 1 and 0 (nothing to score).
  const at::Tensor mask =
      Bools({1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0}).view({3, 4});
  CHECK(at::equal(ValueMask(mask, ScorePlacement::kAfterEnd),
                  Bools({1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0}).view({3, 4})));
  CHECK(at::equal(ValueMask(mask, ScorePlacement::kLastToken), mask));
  CheckClose(TokenRewards(Row({10, 20, kNan}), mask.to(at::kFloat), 0.5, mask,
                          ScorePlacement::kAfterEnd),
             Row({-.5, -.5, 9.5, 0, -.5, 20, 0, 0, 0, 0, 0, 0}).view({3, 4}));
}

TEST_CASE("GAE follows its recursion", "[rl]") {
  // gamma .5, lambda .5, r = [1, 2, 4], V = [1, 1, 2]:
  // d2 = 4-2 = 2, d1 = 2+.5*2-1 = 2, d0 = 1+.5*1-1 = .5
  // A2 = 2, A1 = 2+.25*2 = 2.5, A0 = .5+.25*2.5 = 1.125
  const at::Tensor mask = Bools({1, 1, 1, 1, 0, 0}).view({2, 3});
  const at::Tensor r = Row({1, 2, 4, 3, kNan, 9}).view({2, 3});
  const at::Tensor v = Row({1, 1, 2, 1, 5, kNan}).view({2, 3});
  const Advantages a = GeneralisedAdvantages(r, v, mask, 0.5, 0.5);
  CheckClose(a.advantages, Row({1.125, 2.5, 2, 2, 0, 0}).view({2, 3}));
  CheckClose(a.returns, Row({2.125, 3.5, 4, 3, 0, 0}).view({2, 3}));
}

TEST_CASE("GAE with lambda 1 is the reward to come minus the value", "[rl]") {
  torch::manual_seed(1);
  const at::Tensor mask = torch::ones({4, 6}, torch::kBool);
  const at::Tensor r = torch::randn({4, 6}), v = torch::randn({4, 6});
  const at::Tensor to_come = r.flip(1).cumsum(1).flip(1);
  CheckClose(GeneralisedAdvantages(r, v, mask, 1, 1).advantages, to_come - v,
             1e-5);
  CheckClose(ReinforcePlusPlusAdvantages(r, mask, 1), to_come, 1e-5);
}

TEST_CASE("KL estimators match their formulas and the exact divergence",
          "[rl]") {
  const at::Tensor lp = Row({-1}), ref = Row({-2});  // d = -1
  CheckClose(EstimateKl(lp, ref, KlEstimator::kK1), Row({1}));
  CheckClose(EstimateKl(lp, ref, KlEstimator::kK2), Row({0.5}));
  CheckClose(EstimateKl(lp, ref, KlEstimator::kK3), Row({0.36787945f}));
  CheckClose(EstimateKl(ref - 9, lp, KlEstimator::kK3, 20), Row({20 - 1 - 10}));
  // k1 and k3 are unbiased: their mean under the policy is the divergence.
  const at::Tensor p = Row({.5, .3, .2}), q = Row({.2, .2, .6});
  const at::Tensor exact = (p * (p / q).log()).sum();
  CheckClose((p * EstimateKl(p.log(), q.log(), KlEstimator::kK1)).sum(), exact);
  CheckClose((p * EstimateKl(p.log(), q.log(), KlEstimator::kK3)).sum(), exact);
}

TEST_CASE("The policy loss is clipped where the bound decides", "[rl]") {
  // Ratios .5, 1, 2 with advantages +1 and -1; bounds .8 and 1.3.
  at::Tensor lp = Row({.5, 1, 2, .5, 1, 2}).log();
  lp.requires_grad_(true);
  const PolicyLoss l = ClippedPolicyLoss(lp, Row({1, 1, 1, -1, -1, -1}),
                                         {.low = 0.2, .high = 0.3});
  CheckClose(l.loss.detach(), Row({-.5, -1, -1.3, .8, 1, 2}));
  CHECK(at::equal(l.clipped, Bools({0, 0, 1, 1, 0, 0})));
  l.loss.sum().backward();
  CheckClose(lp.grad(), Row({-.5, -1, 0, 0, 1, 2}));
}

TEST_CASE("The dual bound limits what a bad sample may cost", "[rl]") {
  at::Tensor lp = Row({4, 4, .5}).log();
  lp.requires_grad_(true);
  const PolicyLoss l = ClippedPolicyLoss(lp, Row({-1, 1, -1}), {.dual = 3});
  CheckClose(l.loss.detach(), Row({3, -1.2f, .8f}));
  CHECK(at::equal(l.dual_clipped, Bools({1, 0, 0})));
  CHECK(at::equal(l.clipped, Bools({0, 1, 1})));
  l.loss.sum().backward();
  CheckClose(lp.grad(), Row({0, 0, 0}));
}

TEST_CASE("A ratio may be a token's, a response's or its mean", "[rl]") {
  const at::Tensor sequences = Ids({0, 1, 0});
  at::Tensor lp = Row({1, 2, 4}).requires_grad_(true);
  const at::Tensor old = Row({0, 0, 1});
  const auto ratio = [&](RatioLevel level) {
    return LogRatio(lp, old, sequences, level);
  };
  CheckClose(ratio(RatioLevel::kToken).detach(), Row({1, 2, 3}));
  CheckClose(ratio(RatioLevel::kSequence).detach(), Row({4, 2, 4}));
  CheckClose(ratio(RatioLevel::kSequenceMean).detach(), Row({2, 2, 2}));
  (ratio(RatioLevel::kSequenceMean) * Row({1, 10, 0})).sum().backward();
  CheckClose(lp.grad(), Row({.5, 10, .5}));
}

TEST_CASE("The value loss takes the larger of plain and clipped error",
          "[rl]") {
  // v_old 0, clip .2, R 1: v = .5 -> v' = .2, so .8^2 / 2; v = -1 -> plain.
  CheckClose(
      ClippedValueLoss(Row({.5, -1}), Row({0, 0}), Row({1, 1}), 0.2).loss,
      Row({.32, 2}));
  CheckClose(ClippedValueLoss(Row({.5}), Row({0}), Row({1}), 0).loss,
             Row({.125}));
}

TEST_CASE("Importance weights are cut at their bound", "[rl]") {
  const at::Tensor d = Row({2, 0, 1});
  CheckClose(ImportanceWeights(d, 2), Row({2, 1, 2}));
  CheckClose(ImportanceWeights(d, 2, AboveCap::kDrop), Row({0, 1, 0}));
}

TEST_CASE(
    "Whitening uses Bessel's correction and adds epsilon to the deviation",
    "[rl]") {
  const at::Tensor x = Row({1, 2, 3, kNan}).view({2, 2});
  const at::Tensor mask = Bools({1, 1, 1, 0}).view({2, 2});
  CheckClose(Whiten(x, mask, 0.25), Row({-.8, 0, .8, 0}).view({2, 2}));
  SECTION("with epsilon beside the variance") {
    CheckClose(Whiten(x, mask, 3, EpsilonIn::kVariance),
               Row({-.5, 0, .5, 0}).view({2, 2}));
  }
  SECTION("within groups") {
    CheckClose(WhitenGroups(Row({1, 3, 10, 30, 7}), Bools({1, 1, 1, 1, 1}),
                            Ids({0, 0, 1, 1, 2}), 0),
               Row({-.70710678f, .70710678f, -.70710678f, .70710678f, 0}));
  }
  SECTION("nothing but zeros stays zero") {
    CheckClose(Whiten(Row({5, 5}), Bools({1, 1}), 0), Row({0, 0}));
    CheckClose(Whiten(Row({5, 5}), Bools({0, 0}), 0), Row({0, 0}));
  }
}

TEST_CASE("Loss weights add up as their names say", "[rl]") {
  // Lengths 3, 1 and 0: the last is no sequence.
  const at::Tensor mask = Bools({1, 1, 1, 1, 0, 0, 0, 0, 0}).view({3, 3});
  const at::Tensor loss = Row({1, 2, 3, 10, 99, 99, 99, 99, 99}).view({3, 3});
  const auto total = [&](LossAggregation a) {
    return (LossWeights(mask, a, 5) * loss).sum().item<double>();
  };
  CHECK(total(LossAggregation::kTokenMean) == Approx(16 / 4.0));
  CHECK(total(LossAggregation::kSequenceMean) == Approx((2 + 10) / 2.0));
  CHECK(total(LossAggregation::kConstant) == Approx(16 / 10.0));
}

TEST_CASE("Loss weights of blocks average the blocks", "[rl]") {
  // Blocks of rows {0, 1}, {2, 3} and {4}: 4 tokens, none, 1 token.
  const at::Tensor mask =
      Bools({1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}).view({5, 3});
  const at::Tensor w = LossWeights(mask, LossAggregation::kTokenMean, 1, 2);
  CheckClose(w, Row({.125, .125, .125, .125, 0, 0, 0, 0, 0, 0, 0, 0, .5, 0, 0})
                    .view({5, 3}));
  CheckClose(LossWeights(mask, LossAggregation::kSequenceMean, 1, 2).sum(1),
             Row({.25, .25, 0, 0, .5}));
  CheckClose(LossWeights(mask, LossAggregation::kTokenMean, 1, 5),
             LossWeights(mask, LossAggregation::kTokenMean, 1));
}

TEST_CASE("The gradient equals that of the batch without the unscorable row",
          "[rl]") {
  torch::manual_seed(2);
  const at::Tensor logits = torch::randn({4, 5}, torch::kFloat);
  const auto gradient = [&](std::vector<int64_t> rows, bool second_scored,
                            LossAggregation aggregation) {
    at::Tensor lp = logits.clone().requires_grad_(true);
    const at::Tensor picked = lp.index_select(0, Ids(rows));
    const at::Tensor scored =
        Bools({1, second_scored, 1, 1}).index_select(0, Ids(rows));
    const at::Tensor rewards = Row({1, kNan, 0, 0}).index_select(0, Ids(rows));
    const at::Tensor groups = torch::zeros({picked.size(0)}, torch::kLong);
    const at::Tensor mask = scored.unsqueeze(1).expand({-1, 5});
    const at::Tensor a = RlooAdvantages(rewards, scored, groups);
    const at::Tensor loss =
        ClippedPolicyLoss(picked - picked.detach(), a.unsqueeze(1), {}).loss;
    (LossWeights(mask, aggregation, 5) * loss).sum().backward();
    return lp.grad();
  };
  for (auto aggregation :
       {LossAggregation::kTokenMean, LossAggregation::kSequenceMean,
        LossAggregation::kConstant}) {
    CheckClose(gradient({0, 1, 2, 3}, false, aggregation),
               gradient({0, 2, 3}, false, aggregation));
  }
}

}  // namespace
}  // namespace mpo::rl
