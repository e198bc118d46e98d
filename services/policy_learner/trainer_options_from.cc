// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/trainer_options_from.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mpo::policy_learner {
namespace {

template <typename Enum>
void Parse(const char* key, const std::string& name,
           const std::map<std::string, Enum>& names, Enum& value,
           std::vector<std::string>& problems) {
  if (const auto it = names.find(name); it != names.end()) {
    value = it->second;
    return;
  }
  std::vector<std::string> known;
  for (const auto& [text, unused] : names) known.push_back(text);
  problems.push_back(absl::StrCat("learner.", key, ": expected one of ",
                                  absl::StrJoin(known, ", "), ", got '", name,
                                  "'"));
}

void ParseNames(const config::v1::Learner& l, TrainerOptions& o,
                std::vector<std::string>& problems) {
  Parse<Algorithm>("algorithm", l.algorithm(),
                   {{"ppo", Algorithm::kPpo},
                    {"grpo", Algorithm::kGrpo},
                    {"dr_grpo", Algorithm::kDrGrpo},
                    {"rloo", Algorithm::kRloo},
                    {"reinforce_pp", Algorithm::kReinforcePlusPlus}},
                   o.algorithm, problems);
  Parse<LrSchedule>("lr_schedule", l.lr_schedule(),
                    {{"constant", LrSchedule::kConstant},
                     {"linear", LrSchedule::kLinear},
                     {"cosine", LrSchedule::kCosine}},
                    o.lr_schedule, problems);
  Parse<rl::KlEstimator>("kl_estimator", l.kl_estimator(),
                         {{"k1", rl::KlEstimator::kK1},
                          {"k2", rl::KlEstimator::kK2},
                          {"k3", rl::KlEstimator::kK3}},
                         o.kl_estimator, problems);
  Parse<KlPlace>("kl_in", l.kl_in(),
                 {{"reward", KlPlace::kReward}, {"loss", KlPlace::kLoss}},
                 o.kl_in, problems);
  Parse<rl::Whitening>("advantage_whitening", l.advantage_whitening(),
                       {{"none", rl::Whitening::kNone},
                        {"batch", rl::Whitening::kBatch},
                        {"group", rl::Whitening::kGroup}},
                       o.advantage_whitening, problems);
  Parse<rl::LossAggregation>(
      "loss_aggregation", l.loss_aggregation(),
      {{"token_mean", rl::LossAggregation::kTokenMean},
       {"sequence_mean", rl::LossAggregation::kSequenceMean},
       {"constant", rl::LossAggregation::kConstant}},
      o.loss_aggregation, problems);
}

void CopyNumbers(const config::v1::Learner& l, TrainerOptions& o) {
  o.learning_rate = l.learning_rate();
  o.warmup_steps = l.warmup_steps();
  o.weight_decay = l.weight_decay();
  o.adam_beta1 = l.adam_beta1();
  o.adam_beta2 = l.adam_beta2();
  o.adam_epsilon = l.adam_epsilon();
  o.max_grad_norm = l.max_grad_norm();
  o.epochs = l.epochs();
  o.minibatches = l.minibatches();
  o.micro_batch_tokens = l.micro_batch_tokens();
  o.kl_coef = l.kl_coef();
  o.kl_max_ratio = l.kl_max_ratio();
  o.clip_low = l.clip_low();
  o.clip_high = l.clip_high();
  o.clip_value = l.clip_value();
  o.value_coef = l.value_coef();
  o.value_learning_rate = l.value_learning_rate();
  o.value_updates = l.value_updates();
  o.gamma = l.gamma();
  o.lambda = l.lambda();
  o.entropy_coef = l.entropy_coef();
  o.whitening_epsilon = l.whitening_epsilon();
  o.missing_eos_penalty = l.missing_eos_penalty();
  o.truncated_importance = l.truncated_importance();
  o.reward_scale = l.reward_scale();
  o.max_nonfinite_steps = l.max_nonfinite_steps();
}

}  // namespace

absl::StatusOr<TrainerOptions> TrainerOptionsFrom(
    const config::v1::RunConfig& config) {
  TrainerOptions options;
  std::vector<std::string> problems;
  ParseNames(config.learner(), options, problems);
  CopyNumbers(config.learner(), options);
  options.seed = static_cast<uint64_t>(config.run().seed());
  if (config.run().steps() > 0) options.total_steps = config.run().steps();
  if (config.generation().max_new_tokens() > 0) {
    options.constant_length = config.generation().max_new_tokens();
  }
  const bool grouped = options.algorithm == Algorithm::kRloo ||
                       options.algorithm == Algorithm::kGrpo ||
                       options.algorithm == Algorithm::kDrGrpo;
  if (grouped && config.generation().group_size() == 1) {
    problems.push_back(absl::StrCat(
        "learner.algorithm: ", config.learner().algorithm(),
        " compares samples of one prompt, generation.group_size is 1"));
  }
  if (config.policy().has_lora()) {
    const config::v1::Lora& lora = config.policy().lora();
    options.lora = model::LoraConfig{};
    options.lora->rank = lora.rank();
    options.lora->alpha = lora.alpha();
    options.lora->layers = lora.layers();
    options.lora->target_modules.assign(lora.target_modules().begin(),
                                        lora.target_modules().end());
  }
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  }
  return options;
}

}  // namespace mpo::policy_learner
