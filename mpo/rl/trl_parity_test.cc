// SPDX-License-Identifier: Apache-2.0
// Against what TRL computed on fixed inputs (tools/make_trl_fixtures.py): PPO
// by TRL 0.17, GRPO and RLOO by TRL 1.16. Every entry of a tensor must agree to
// 1e-5 of the tensor's largest.
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "mpo/model/safetensors.h"
#include "mpo/rl/aggregation.h"
#include "mpo/rl/gae.h"
#include "mpo/rl/group_statistics.h"
#include "mpo/rl/grpo.h"
#include "mpo/rl/kl.h"
#include "mpo/rl/policy_loss.h"
#include "mpo/rl/rloo.h"
#include "mpo/rl/selective_logprob.h"
#include "mpo/rl/value_loss.h"
#include "mpo/rl/whitening.h"

namespace mpo::rl {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class Fixture {
 public:
  explicit Fixture(const std::string& name) {
    const auto file = model::SafetensorsFile::Open(
        std::string(MPO_SOURCE_DIR "/mpo/rl/testdata/") + name +
        ".safetensors");
    INFO(file.status());
    REQUIRE(file.ok());
    for (const auto& [key, unused] : (*file)->header().entries) {
      tensors_[key] = *(*file)->Read(key);
    }
  }
  const at::Tensor& operator[](const std::string& key) const {
    INFO(key);
    REQUIRE(tensors_.count(key) == 1);
    return tensors_.at(key);
  }
  double Setting(const std::string& key) const {
    return (*this)["settings." + key].item<double>();
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

void CheckAgrees(const std::string& what, const at::Tensor& actual,
                 const at::Tensor& expected) {
  REQUIRE(actual.sizes() == expected.sizes());
  const double scale = expected.abs().max().item<double>();
  const double error = (actual - expected).abs().max().item<double>();
  INFO(what << ": off by " << error << ", largest entry " << scale << "\n"
            << actual << "\nexpected\n"
            << expected);
  CHECK(error <= 1e-5 * scale);
}

at::Tensor TokenMask(const at::Tensor& lengths, int64_t columns) {
  return at::arange(columns).unsqueeze(0) < lengths.unsqueeze(1);
}

// Log-probs [B, T] of `targets` under `logits` [B, T, V]: the head is the
// identity.
at::Tensor Logprobs(const at::Tensor& logits, const at::Tensor& targets) {
  const int64_t vocabulary = logits.size(2);
  return SelectiveLogprob(logits.reshape({-1, vocabulary}), at::eye(vocabulary),
                          targets.reshape({-1}), at::ones({targets.numel()}),
                          {})
      .logprobs.view(targets.sizes());
}

// The rollout part of PPO: everything up to the first optimiser step.
struct PpoInputs {
  at::Tensor mask, value_mask, old_logprobs, values;
  Advantages advantages;
};

PpoInputs CheckPpoRollout(const Fixture& f) {
  PpoInputs in;
  const at::Tensor& targets = f["responses"];
  in.mask = TokenMask(f["sequence_lengths"] + 1, targets.size(1));
  in.value_mask = ValueMask(in.mask, ScorePlacement::kAfterEnd);
  in.old_logprobs = Logprobs(f["logits"], targets);
  const at::Tensor reference = Logprobs(f["ref_logits"], targets);
  // TRL writes 1 at padding.
  CheckAgrees("logprobs", at::where(in.mask, in.old_logprobs, 1.0),
              f["logprobs"]);
  CheckAgrees("ref_logprobs", at::where(in.mask, reference, 1.0),
              f["ref_logprobs"]);
  const at::Tensor scores =
      f["given_scores"] -
      f.Setting("missing_eos_penalty") *
          f["contain_eos_token"].logical_not().to(at::kFloat);
  CheckAgrees("scores", scores, f["scores"]);
  const at::Tensor kl =
      EstimateKl(in.old_logprobs, reference,
                 f.Setting("k3") > 0 ? KlEstimator::kK3 : KlEstimator::kK1);
  CheckAgrees("kl", at::where(in.mask, kl, 0.0), f["kl"]);
  const at::Tensor rewards =
      TokenRewards(scores, at::where(in.mask, kl, kNan), f.Setting("kl_coef"),
                   in.mask, ScorePlacement::kAfterEnd);
  CheckAgrees("rewards", rewards, f["rewards"]);
  in.values = at::where(in.value_mask, f["values"], kNan);
  in.advantages = GeneralisedAdvantages(rewards, in.values, in.value_mask,
                                        f.Setting("gamma"), f.Setting("lam"));
  CheckAgrees("returns", in.advantages.returns, f["returns"]);
  in.advantages.advantages =
      Whiten(in.advantages.advantages, in.mask, 1e-8, EpsilonIn::kVariance);
  CheckAgrees("advantages", in.advantages.advantages, f["advantages"]);
  return in;
}

// One pass over the batch: two micro-batches of four rows, each averaged by
// itself, as the reference accumulates gradients.
void CheckPpoEpoch(const Fixture& f, const PpoInputs& in, int64_t epoch) {
  const auto both = [&](const std::string& key) {
    const std::string first = "pass" + std::to_string(2 * epoch) + ".";
    const std::string second = "pass" + std::to_string(2 * epoch + 1) + ".";
    return at::cat(
        {f[first + key].reshape({-1}), f[second + key].reshape({-1})});
  };
  const at::Tensor rows = both("rows");
  const auto of_rows = [&](const at::Tensor& x) {
    return x.index_select(0, rows);
  };
  const at::Tensor targets = of_rows(f["responses"]);
  const at::Tensor mask = of_rows(in.mask);
  const at::Tensor value_mask = of_rows(in.value_mask);
  const int64_t block =
      rows.size(0) / static_cast<int64_t>(f.Setting("accumulation"));
  at::Tensor logits = both("logits")
                          .view({targets.size(0), targets.size(1), -1})
                          .requires_grad_(true);
  at::Tensor values = both("values").view(targets.sizes()).requires_grad_(true);

  at::Tensor logprobs = Logprobs(logits, targets);
  logprobs.retain_grad();
  const at::Tensor log_ratio =
      at::where(mask, logprobs - of_rows(in.old_logprobs), 0.0);
  const PolicyLoss policy = ClippedPolicyLoss(
      log_ratio, of_rows(in.advantages.advantages),
      {.low = f.Setting("cliprange"), .high = f.Setting("cliprange")});
  const ValueLoss value = ClippedValueLoss(
      values, at::where(value_mask, of_rows(in.values), 0.0),
      of_rows(in.advantages.returns), f.Setting("cliprange_value"));
  const at::Tensor weights =
      LossWeights(mask, LossAggregation::kTokenMean, 0, block);
  const at::Tensor value_weights =
      LossWeights(value_mask, LossAggregation::kTokenMean, 0, block);
  const at::Tensor policy_loss = (weights * policy.loss).sum();
  const at::Tensor value_loss = (value_weights * value.loss).sum();
  const at::Tensor loss = policy_loss + f.Setting("value_coef") * value_loss;
  loss.backward();

  CheckAgrees("policy_loss", policy_loss.detach(), both("policy_loss").mean());
  CheckAgrees("value_loss", value_loss.detach(), both("value_loss").mean());
  CheckAgrees("loss", loss.detach(), both("loss").mean());
  CheckAgrees("clip fraction", (weights * policy.clipped.to(at::kFloat)).sum(),
              both("clip_fraction").mean());
  CheckAgrees("value clip fraction",
              (value_weights * value.clipped.to(at::kFloat)).sum(),
              both("value_clip_fraction").mean());
  CheckAgrees("logprobs_grad", logprobs.grad(),
              both("logprobs_grad").view(targets.sizes()));
  CheckAgrees("logits_grad", logits.grad(),
              both("logits_grad").view(logits.sizes()));
  CheckAgrees("values_grad", values.grad(),
              both("values_grad").view(targets.sizes()));
}

TEST_CASE("PPO computes what TRL 0.17 computes", "[rl][trl]") {
  const int seed = GENERATE(1, 2, 3);
  INFO("seed " << seed);
  const Fixture f("trl_ppo_" + std::to_string(seed));
  const PpoInputs in = CheckPpoRollout(f);
  const auto passes = static_cast<int64_t>(f.Setting("passes"));
  for (int64_t epoch = 0; 2 * epoch < passes; ++epoch) {
    INFO("epoch " << epoch);
    CheckPpoEpoch(f, in, epoch);
  }
}

// What a loss of GRPO or RLOO is made of; TRL's words beside ours.
struct Case {
  std::string name;
  LossAggregation aggregation = LossAggregation::kTokenMean;
  RatioLevel level = RatioLevel::kToken;
  ClipBounds bounds = {};
  double kl_coef = 0;        // beta; k3 in the loss.
  bool kl_weighted = false;  // use_bias_correction_kl.
  double entropy_coef = 0;
  // vllm_importance_sampling_mode, clip_max 1.2.
  bool truncate = false;
  RatioLevel truncate_level = RatioLevel::kToken;
};

void CheckLoss(const Fixture& f, const Case& c) {
  INFO(c.name);
  const int64_t columns = f["old"].size(1);
  const at::Tensor mask = TokenMask(f["lengths"], columns);
  const at::Tensor where = mask.flatten().nonzero().squeeze(1);
  const at::Tensor sequences = where.div(columns, "floor");
  const auto take = [&](const at::Tensor& x) {
    return x.flatten().index_select(0, where);
  };
  at::Tensor leaf = f["new"].clone().requires_grad_(true);
  at::Tensor entropy = f["entropy"].clone().requires_grad_(true);
  const at::Tensor logprobs = take(leaf);
  const at::Tensor advantages =
      f[c.name + ".advantages"].index_select(0, sequences);
  const at::Tensor weights = take(LossWeights(mask, c.aggregation, columns));
  const at::Tensor log_ratio =
      LogRatio(logprobs, take(f["old"]), sequences, c.level);
  const PolicyLoss policy = ClippedPolicyLoss(log_ratio, advantages, c.bounds);
  at::Tensor loss = policy.loss;
  if (c.truncate) {
    loss =
        loss * ImportanceWeights(LogRatio(take(f["old"]), take(f["behaviour"]),
                                          sequences, c.truncate_level),
                                 1.2);
  }
  if (c.kl_coef != 0) {
    const at::Tensor kl =
        EstimateKl(logprobs, take(f["reference"]), KlEstimator::kK3);
    loss = loss +
           c.kl_coef * (c.kl_weighted ? RatioWeightedKl(kl, log_ratio) : kl);
  }
  at::Tensor total = (weights * loss).sum();
  if (c.entropy_coef != 0) {
    total = total - c.entropy_coef * (weights * take(entropy)).sum();
  }
  total.backward();
  CheckAgrees("loss", total.detach().reshape({1}), f[c.name + ".loss"]);
  CheckAgrees("gradient", leaf.grad(), f[c.name + ".grad"]);
  if (c.entropy_coef != 0) {
    CheckAgrees("entropy's gradient", entropy.grad(),
                f[c.name + ".entropy_grad"]);
  }
  // A share of tokens, or of sequences where the ratio is theirs.
  const at::Tensor share = take(LossWeights(
      mask,
      c.level == RatioLevel::kToken ? LossAggregation::kTokenMean
                                    : LossAggregation::kSequenceMean,
      0));
  CheckAgrees("clip fraction",
              (share * policy.clipped.to(at::kFloat)).sum().reshape({1}),
              f[c.name + ".clip_fraction"]);
}

at::Tensor Groups() { return at::arange(8).div(4, "floor"); }

TEST_CASE("GRPO computes what TRL 1.16 computes", "[rl][trl]") {
  const int seed = GENERATE(1, 2, 3);
  INFO("seed " << seed);
  const Fixture f("trl_grpo_" + std::to_string(seed));
  const at::Tensor groups = Groups();
  const at::Tensor all = at::ones({8}, at::kBool);
  const at::Tensor scored = f["scored"].to(at::kBool);
  const at::Tensor holes = at::where(scored, f["rewards"], kNan);
  for (const char* name : {"grpo", "bnpo", "sequence", "entropy"}) {
    CheckAgrees(name, GrpoAdvantages(f["rewards"], all, groups),
                f[std::string(name) + ".advantages"]);
  }
  CheckAgrees("dr_grpo", DrGrpoAdvantages(f["rewards"], all, groups),
              f["dr_grpo.advantages"]);
  CheckAgrees("batch_std", GrpoBatchScaledAdvantages(f["rewards"], all, groups),
              f["batch_std.advantages"]);
  CheckAgrees("holes", GrpoAdvantages(holes, scored, groups),
              f["grpo.holes.advantages"]);
  CheckAgrees("holes, dr_grpo", DrGrpoAdvantages(holes, scored, groups),
              f["dr_grpo.holes.advantages"]);

  using enum LossAggregation;
  CheckLoss(f, {.name = "grpo",
                .aggregation = kSequenceMean,
                .bounds = {.low = .2, .high = .28},
                .kl_coef = .04,
                .kl_weighted = true});
  CheckLoss(f,
            {.name = "bnpo", .bounds = {.low = .2, .high = .2, .dual = 1.5}});
  CheckLoss(f, {.name = "dr_grpo",
                .aggregation = kConstant,
                .bounds = {.low = .1, .high = .3},
                .kl_coef = .1});
  CheckLoss(f, {.name = "sequence",
                .aggregation = kSequenceMean,
                .level = RatioLevel::kSequenceMean,
                .bounds = {.low = .05, .high = .05}});
  CheckLoss(f, {.name = "batch_std"});
  CheckLoss(f, {.name = "entropy",
                .kl_coef = .02,
                .kl_weighted = true,
                .entropy_coef = .03});
  CheckLoss(f, {.name = "token_truncate", .truncate = true});
  CheckLoss(f, {.name = "sequence_truncate",
                .truncate = true,
                .truncate_level = RatioLevel::kSequence});
}

TEST_CASE("RLOO computes what TRL 1.16 computes", "[rl][trl]") {
  const int seed = GENERATE(1, 2, 3);
  INFO("seed " << seed);
  const Fixture f("trl_rloo_" + std::to_string(seed));
  const at::Tensor groups = Groups();
  const at::Tensor all = at::ones({8}, at::kBool);
  const at::Tensor scored = f["scored"].to(at::kBool);
  const at::Tensor mask = TokenMask(f["lengths"], f["old"].size(1));
  const at::Tensor kl = at::where(
      mask, EstimateKl(f["old"], f["reference"], KlEstimator::kK1), 0.0);
  const auto whitened = [&](const at::Tensor& rewards,
                            const at::Tensor& known) {
    return Whiten(RlooAdvantages(rewards, known, groups),
                  ComputeGroupStatistics(rewards, known, groups).usable, 1e-4);
  };
  CheckAgrees("plain",
              RlooAdvantages(f["rewards"] - 0.05 * kl.sum(1), all, groups),
              f["plain.advantages"]);
  CheckAgrees("normalised", whitened(f["rewards"], all),
              f["normalised.advantages"]);
  CheckAgrees("reward_clip",
              RlooAdvantages(f["rewards"].clamp(-1, 1), all, groups),
              f["reward_clip.advantages"]);
  const at::Tensor holes = at::where(scored, f["rewards"], kNan);
  CheckAgrees("holes", RlooAdvantages(holes, scored, groups),
              f["plain.holes.advantages"]);
  CheckAgrees("holes, normalised", whitened(holes, scored),
              f["normalised.holes.advantages"]);

  for (const auto& [name, bounds] :
       std::vector<std::pair<std::string, ClipBounds>>{
           {"plain", {.low = .2, .high = .2}},
           {"normalised", {.low = .1, .high = .3}},
           {"reward_clip", {.low = .2, .high = .2}}}) {
    CheckLoss(f, {.name = name,
                  .aggregation = LossAggregation::kSequenceMean,
                  .level = RatioLevel::kSequence,
                  .bounds = bounds});
  }
}

}  // namespace
}  // namespace mpo::rl
