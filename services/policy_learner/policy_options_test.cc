// SPDX-License-Identifier: Apache-2.0
// What the options of the trainer beyond the plain algorithms do to an update.
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <limits>

#include "services/policy_learner/policy_trainer.h"
#include "services/policy_learner/toy_task.h"
#include "services/policy_learner/trainer_checks.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
using Model = std::shared_ptr<const model::LanguageModel>;

void TrainSteps(PolicyTrainer& trainer, int64_t after, int64_t through) {
  for (int64_t step = after + 1; step <= through; ++step) {
    const auto result =
        trainer.Train(step, ToyTask::Sample(trainer.model(), step, 1));
    REQUIRE(result.ok());
    REQUIRE(result->metrics.at("nonfinite") == 0);
  }
}

double Reward(const PolicyTrainer& trainer) {
  double sum = 0;
  for (const auto& s : ToyTask::Sample(trainer.model(), 9001, 2)) {
    sum += s.verdict.reward;
  }
  return sum;
}

// PPO as the reference computes it, at rates at which a toy learns.
TrainerOptions PaperOptions() {
  TrainerOptions options = ToyTask::Options();
  options.algorithm = Algorithm::kPpo;
  options.epochs = 2;
  options.kl_in = KlPlace::kReward;
  options.kl_estimator = rl::KlEstimator::kK1;
  options.value_model = ValueModelKind::kSeparate;
  options.value_learning_rate = 3e-3;
  options.value_coef = 1;
  options.score_placement = rl::ScorePlacement::kAfterEnd;
  options.whitening_epsilon = 1e-8;
  options.whitening_epsilon_in = rl::EpsilonIn::kVariance;
  options.whitening_block = 16;
  options.loss_block = 2;
  options.missing_eos_penalty = 0.01;
  return options;
}

TrainerOptions Variant(const std::string& name) {
  TrainerOptions o = ToyTask::Options();
  o.epochs = 2;
  if (name == "paper") return PaperOptions();
  if (name == "popart" || name == "popart, separate") {
    o = PaperOptions();
    o.popart = true;
    o.popart_rate = 0.1;
    if (name == "popart") {
      o.value_model = ValueModelKind::kHead;
      o.value_learning_rate = 2e-2;
      o.value_updates = 4;
    }
  } else if (name == "baseline") {
    o.algorithm = Algorithm::kReinforcePlusPlusBaseline;
  } else if (name == "normalised") {
    o.normalise_rewards = true;
    o.reward_clip = 2;
  } else if (name == "sequence") {
    o.ratio = rl::RatioLevel::kSequence;
    o.dual_clip = 3;
  } else if (name == "sequence_mean") {
    o.ratio = rl::RatioLevel::kSequenceMean;
    o.truncated_importance = 2;
    o.importance_level = rl::RatioLevel::kSequence;
    o.importance_above = rl::AboveCap::kDrop;
  } else if (name == "behaviour") {
    o.old_logprobs = OldLogprobs::kBehaviour;
    o.kl_ratio_weighted = true;
  } else if (name == "batch scale") {
    o.algorithm = Algorithm::kGrpo;
    o.group_scale = GroupScale::kBatch;
  }
  return o;
}

std::string AnyVariant() {
  return GENERATE(as<std::string>(), "paper", "popart", "popart, separate",
                  "baseline", "normalised", "sequence", "sequence_mean",
                  "behaviour", "batch scale");
}

TEST_CASE("Every option of the learner raises the reward", "[learner]") {
  const std::string name = AnyVariant();
  INFO(name);
  auto trainer = NewTrainer(Variant(name));
  const double before = Reward(*trainer);
  TrainSteps(*trainer, 0, 10);
  CHECK(Reward(*trainer) > before);
}

TEST_CASE("No option makes an update depend on the micro-batches",
          "[learner]") {
  const std::string name = AnyVariant();
  INFO(name);
  const TrainerOptions options = Variant(name);
  const auto samples = ToyTask::Sample(NewTrainer(options)->model(), 1, 1);
  CHECK(Difference(options, samples, samples, 30) < 1e-5);
}

TEST_CASE("No option lets an unscorable sample into an update", "[learner]") {
  const std::string name = AnyVariant();
  INFO(name);
  const TrainerOptions options = Variant(name);
  auto with = ToyTask::Sample(NewTrainer(options)->model(), 1, 1);
  auto without = with;
  without.erase(without.begin() + 5);
  with[5].verdict = {};
  with[5].verdict.reward = std::numeric_limits<double>::quiet_NaN();
  // Longer than any other: it must not make room for scores behind the end.
  Rollout& r = with[5].rollout;
  while (r.response_tokens.size() < 12) {
    r.response_tokens.push_back(1);
    r.logprobs.push_back(-1);
  }
  r.spans = {{0, 12, 0}};
  CHECK(Difference(options, with, without, 4096) < 1e-6);
}

TEST_CASE("Value model and statistics are part of what is resumed",
          "[learner]") {
  TrainerOptions options = PaperOptions();
  options.popart = true;
  options.normalise_rewards = true;
  if (GENERATE(false, true)) {
    options.lora.reset();
    options.learning_rate = 3e-3;
  }
  const TemporaryDirectory directory;
  auto undisturbed = NewTrainer(options);
  TrainSteps(*undisturbed, 0, 2);
  REQUIRE(undisturbed->Save(directory.path).ok());
  TrainSteps(*undisturbed, 2, 5);
  auto resumed = NewTrainer(options);
  TrainSteps(*resumed, 0, 1);  // What it held before must not matter.
  const absl::Status loaded = resumed->Load(directory.path);
  INFO(loaded);
  REQUIRE(loaded.ok());
  TrainSteps(*resumed, 2, 5);
  CHECK(Digest(*resumed) == Digest(*undisturbed));

  TrainerOptions plain = options;
  plain.popart = plain.normalise_rewards = false;
  REQUIRE(NewTrainer(plain)->Save(directory.path).ok());
  CHECK_THAT(std::string(NewTrainer(options)->Load(directory.path).message()),
             Contains("tensor 'reward_moments' is missing"));
  std::filesystem::remove(directory.path / "value_model.safetensors");
  CHECK(NewTrainer(plain)->Load(directory.path).code() ==
        absl::StatusCode::kNotFound);
}

TEST_CASE("The first value loss is that of values of 0", "[learner]") {
  // gamma = lambda = 1 and a policy equal to the reference: every return is the
  // score. Responses shorter than the longest have one position more.
  TrainerOptions options = PaperOptions();
  options.epochs = 1;
  options.lambda = 1;
  options.loss_block = 0;
  options.missing_eos_penalty = 0;
  options.clip_value = 0;
  auto trainer = NewTrainer(options);
  const auto samples = ToyTask::Sample(trainer->model(), 1, 1);
  size_t longest = 0;
  for (const auto& s : samples) {
    longest = std::max(longest, s.rollout.response_tokens.size());
  }
  double sum = 0, count = 0;
  for (const auto& s : samples) {
    const size_t tokens = s.rollout.response_tokens.size();
    const double positions =
        static_cast<double>(tokens + (tokens < longest ? 1 : 0));
    sum += positions * s.verdict.reward * s.verdict.reward / 2;
    count += positions;
  }
  const auto result = trainer->Train(1, samples);
  REQUIRE(result.ok());
  CHECK(result->metrics.at("value_loss") == Approx(sum / count).epsilon(1e-5));
  CHECK(result->metrics.at("value_clip_fraction") == 0);
}

TEST_CASE("A value model of its own learns the values", "[learner]") {
  TrainerOptions options = PaperOptions();
  options.learning_rate = 0;
  options.clip_value = 0;
  auto trainer = NewTrainer(options);
  const auto samples = ToyTask::Sample(trainer->model(), 1, 1);
  const double first = trainer->Train(1, samples)->metrics.at("value_loss");
  double last = first;
  for (int64_t step = 2; step <= 40; ++step) {
    last = trainer->Train(step, samples)->metrics.at("value_loss");
  }
  CHECK(last < first / 4);
}

TEST_CASE("A reference of its own is what KL is measured to", "[learner]") {
  TrainerOptions options = ToyTask::Options();
  if (GENERATE(false, true)) options.lora.reset();
  auto trainer = NewTrainer(options);
  const auto samples = ToyTask::Sample(trainer->model(), 1, 1);
  REQUIRE(trainer->Train(1, samples).ok());
  SECTION("equal to the base") {
    auto same = NewTrainer(options, ToyTask::Model());
    const auto result = same->Train(1, samples);
    REQUIRE(result.ok());
    CHECK(result->metrics.at("kl") == Approx(0).margin(1e-9));
    const auto a = same->model().Weights(), b = trainer->model().Weights();
    for (size_t i = 0; i < a.size(); ++i) {
      CHECK(at::allclose(a[i].tensor, b[i].tensor, 1e-4, 1e-6));
    }
  }
  SECTION("another one") {
    const Model other =
        *model::LanguageModel::Random(ToyTask::Model()->config(), /*seed=*/4);
    auto apart = NewTrainer(options, other);
    const auto result = apart->Train(1, samples);
    REQUIRE(result.ok());
    CHECK(result->metrics.at("kl") > 0.1);
    CHECK(Digest(*apart) != Digest(*trainer));
  }
}

TEST_CASE("A reference with other tokens is refused", "[learner]") {
  model::ModelConfig config = ToyTask::Model()->config();
  config.vocab_size = 17;
  const Model other = *model::LanguageModel::Random(config, /*seed=*/4);
  const auto trainer = PolicyTrainer::Create(
      ToyTask::Model(), ToyTask::Options(), Clock::Real(), other);
  CHECK(trainer.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(trainer.status().message()),
             Contains("policy.reference: expected a vocabulary of 16") &&
                 Contains("found 17"));
}

TEST_CASE("Behaviour log-probs are the ratio's denominator when asked for",
          "[learner]") {
  TrainerOptions options = ToyTask::Options();
  options.epochs = 1;
  options.old_logprobs = OldLogprobs::kBehaviour;
  auto trainer = NewTrainer(options);
  auto samples = ToyTask::Sample(trainer->model(), 1, 1);
  CHECK(trainer->Train(1, samples)->metrics.at("clip_fraction") == 0);
  // Drawn from a policy that found them less likely by a factor of e: all
  // ratios are e, and clipped where the advantage is positive.
  for (auto& s : samples) {
    for (float& logprob : s.rollout.logprobs) logprob -= 1;
  }
  const auto result = NewTrainer(options)->Train(1, samples);
  CHECK(result->metrics.at("clip_fraction") > 0.1);
  options.old_logprobs = OldLogprobs::kRecomputed;
  CHECK(NewTrainer(options)->Train(1, samples)->metrics.at("clip_fraction") ==
        0);
}

}  // namespace
}  // namespace mpo::policy_learner
