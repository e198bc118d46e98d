// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/trainer_options_from.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "mpo/config/run_config.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;

config::v1::RunConfig Config(const std::vector<std::string>& overrides) {
  const auto loaded = config::ParseRunConfig(
      "run: {name: r, dir: runs/r, steps: 32, seed: 4}\n"
      "task: essay\n"
      "data: {train: t.jsonl}\n"
      "policy: {model: m, lora: {rank: 8}}\n"
      "generation: {max_new_tokens: 40, group_size: 4}\n"
      "reward: {rubric: r.yaml}\n",
      "a.yaml", overrides);
  INFO(loaded.status());
  REQUIRE(loaded.ok());
  return loaded->config;
}

TrainerOptions Good(const std::vector<std::string>& overrides) {
  const auto options = TrainerOptionsFrom(Config(overrides));
  INFO(options.status());
  REQUIRE(options.ok());
  return *options;
}

std::string Problem(const std::vector<std::string>& overrides) {
  const auto options = TrainerOptionsFrom(Config(overrides));
  CHECK(options.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(options.status().message());
}

TEST_CASE("The trainer's options follow the configuration", "[learner]") {
  const TrainerOptions options = Good(
      {"learner.algorithm=dr_grpo", "learner.lr_schedule=cosine",
       "learner.kl_estimator=k3", "learner.kl_in=loss",
       "learner.advantage_whitening=group", "learner.loss_aggregation=constant",
       "learner.kl_coef=0.05", "policy.lora.target_modules=[o_proj, lm_head]"});
  CHECK(options.algorithm == Algorithm::kDrGrpo);
  CHECK(options.lr_schedule == LrSchedule::kCosine);
  CHECK(options.kl_in == KlPlace::kLoss);
  CHECK(options.kl_coef == 0.05);
  CHECK(options.total_steps == 32);
  CHECK(options.constant_length == 40);
  CHECK(options.seed == 4);
  CHECK(options.lora->rank == 8);
  CHECK(options.lora->target_modules ==
        std::vector<std::string>{"o_proj", "lm_head"});
  CHECK_FALSE(Good({"policy.lora=null"}).lora.has_value());
}

TEST_CASE("Defaults of the configuration are those of the trainer",
          "[learner]") {
  const TrainerOptions a = Good({});
  const TrainerOptions b;
  CHECK(a.ratio == b.ratio);
  CHECK(a.old_logprobs == b.old_logprobs);
  CHECK(a.dual_clip == b.dual_clip);
  CHECK(a.value_model == b.value_model);
  CHECK(a.popart == b.popart);
  CHECK(a.popart_rate == b.popart_rate);
  CHECK(a.score_placement == b.score_placement);
  CHECK(a.whitening_epsilon_in == b.whitening_epsilon_in);
  CHECK(a.whitening_block == b.whitening_block);
  CHECK(a.loss_block == b.loss_block);
  CHECK(a.group_scale == b.group_scale);
  CHECK(a.importance_level == b.importance_level);
  CHECK(a.importance_above == b.importance_above);
  CHECK(a.normalise_rewards == b.normalise_rewards);
  CHECK(a.reward_clip == b.reward_clip);
  CHECK(a.kl_ratio_weighted == b.kl_ratio_weighted);
}

TEST_CASE("The preset paper is the reference's PPO", "[learner]") {
  const TrainerOptions o = Good({"learner.preset=paper"});
  CHECK(o.algorithm == Algorithm::kPpo);
  CHECK(o.score_placement == rl::ScorePlacement::kAfterEnd);
  CHECK(o.whitening_epsilon_in == rl::EpsilonIn::kVariance);
  CHECK(o.whitening_epsilon == 1e-8);
  CHECK(o.whitening_block == 16);
  CHECK(o.loss_block == 2);
  CHECK(o.value_model == ValueModelKind::kSeparate);
  CHECK(o.missing_eos_penalty == 1);
  CHECK(o.epochs == 4);
  CHECK(o.minibatches == 1);
  CHECK(o.kl_coef == 0.02);
  CHECK(o.kl_estimator == rl::KlEstimator::kK1);
  CHECK(o.kl_in == KlPlace::kReward);
  CHECK(o.clip_low == 0.2);
  CHECK(o.clip_high == 0.2);
  CHECK(o.clip_value == 0.2);
  CHECK(o.value_coef == 0.1);
  CHECK(o.gamma == 1);
  CHECK(o.lambda == 0.95);
  CHECK(o.learning_rate == 3e-6);
  CHECK(o.lr_schedule == LrSchedule::kLinear);
  CHECK(o.max_grad_norm == 0);
  CHECK(o.weight_decay == 0);
}

TEST_CASE("Every new name reaches the trainer", "[learner]") {
  const TrainerOptions o = Good(
      {"learner.algorithm=reinforce_pp_baseline", "learner.ratio=sequence_mean",
       "learner.truncated_importance=2", "learner.importance_level=sequence",
       "learner.importance_above=drop", "learner.dual_clip=3",
       "learner.reward_normalisation=running", "learner.reward_clip=5",
       "learner.kl_in=loss", "learner.kl_ratio_weighted=true"});
  CHECK(o.algorithm == Algorithm::kReinforcePlusPlusBaseline);
  CHECK(o.ratio == rl::RatioLevel::kSequenceMean);
  CHECK(o.importance_level == rl::RatioLevel::kSequence);
  CHECK(o.importance_above == rl::AboveCap::kDrop);
  CHECK(o.dual_clip == 3);
  CHECK(o.normalise_rewards);
  CHECK(o.reward_clip == 5);
  CHECK(o.kl_ratio_weighted);
  CHECK(Good({"learner.value_normalisation=popart"}).popart);
  CHECK(Good({"learner.old_logprobs=behaviour"}).old_logprobs ==
        OldLogprobs::kBehaviour);
  CHECK(Good({"learner.algorithm=grpo", "learner.group_scale=batch"})
            .group_scale == GroupScale::kBatch);
}

TEST_CASE("Options that make no sense are all named", "[learner]") {
  auto config = Config({"learner.algorithm=rloo", "generation.group_size=1"});
  config.mutable_learner()->set_kl_in("nowhere");
  const auto options = TrainerOptionsFrom(config);
  CHECK(options.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(options.status().message()),
             Contains("learner.kl_in: expected one of loss, reward") &&
                 Contains("generation.group_size is 1"));
}

TEST_CASE("Where and how precisely the learner computes is read", "[learner]") {
  const TrainerOptions plain = Good({});
  CHECK(plain.placement.dtype == at::kFloat);
  CHECK(plain.placement.device.is_cpu());
  CHECK(plain.activations == model::Activations::kKept);
  const TrainerOptions other =
      Good({"learner.dtype=bfloat16", "learner.gradient_checkpointing=true"});
  CHECK(other.placement.dtype == at::kBFloat16);
  CHECK(other.activations == model::Activations::kRecomputed);
  // More than any machine has.
  const absl::Status none =
      TrainerOptionsFrom(Config({"learner.device=cuda:127"})).status();
  CHECK(absl::IsFailedPrecondition(none));
  CHECK_THAT(std::string(none.message()), Contains("CUDA devices"));
  CHECK_THAT(Problem({"learner.device=cuda:1", "learner.ranks=2"}),
             Contains("learner.device: expected cpu or cuda with "
                      "learner.ranks above 1"));
}

TEST_CASE("A setting that nothing would read is refused", "[learner]") {
  CHECK(Problem({"learner.preset=paper", "learner.algorithm=grpo"}) ==
        "learner.preset: paper is ppo, learner.algorithm is grpo; leave out "
        "one of them");
  const std::string rloo = "learner.algorithm=rloo";
  for (const char* key :
       {"value_model=separate", "value_normalisation=popart",
        "score_placement=after_end", "group_scale=batch", "clip_value=0.3",
        "value_coef=0.5", "lambda=0.9", "value_learning_rate=1e-4"}) {
    const std::string name(key, std::string(key).find('='));
    CHECK_THAT(
        Problem({rloo, std::string("learner.") + key}),
        Contains("learner." + name + ": ") && Contains("(it is rloo) only"));
  }
  CHECK_THAT(
      Problem({"learner.value_model=separate", "learner.value_updates=4"}),
      Contains("value_updates above 1: has a meaning with "
               "learner.value_model head only"));
  CHECK_THAT(Problem({"learner.whitening_block=8",
                      "learner.advantage_whitening=none"}),
             Contains("learner.whitening_block"));
  CHECK_THAT(Problem({"learner.importance_above=drop"}),
             Contains("truncated_importance above 0"));
  CHECK_THAT(Problem({"learner.truncated_importance=2",
                      "learner.old_logprobs=behaviour"}),
             Contains("learner.truncated_importance"));
  CHECK_THAT(Problem({rloo, "learner.gamma=0.9"}),
             Contains("learner.gamma: has a meaning with"));
  CHECK_THAT(Problem({"learner.popart_rate=0.5"}),
             Contains("learner.popart_rate: has a meaning with"));
  CHECK_THAT(Problem({"learner.kl_max_ratio=3"}),
             Contains("learner.kl_max_ratio: has a meaning with"));
  CHECK_THAT(Problem({"learner.kl_ratio_weighted=true"}),
             Contains("learner.kl_in loss"));
  CHECK_THAT(Problem({"learner.dual_clip=1.1"}),
             Contains("learner.dual_clip: expected 0 or more than 1 + "
                      "clip_high = 1.2, got 1.1"));
}

}  // namespace
}  // namespace mpo::policy_learner
