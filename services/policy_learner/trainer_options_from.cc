// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/trainer_options_from.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/placement.h"

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
  Parse<Algorithm>(
      "algorithm", l.algorithm(),
      {{"ppo", Algorithm::kPpo},
       {"grpo", Algorithm::kGrpo},
       {"dr_grpo", Algorithm::kDrGrpo},
       {"rloo", Algorithm::kRloo},
       {"reinforce_pp", Algorithm::kReinforcePlusPlus},
       {"reinforce_pp_baseline", Algorithm::kReinforcePlusPlusBaseline}},
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

void ParseRatios(const config::v1::Learner& l, TrainerOptions& o,
                 std::vector<std::string>& problems) {
  Parse<rl::RatioLevel>("ratio", l.ratio(),
                        {{"token", rl::RatioLevel::kToken},
                         {"sequence", rl::RatioLevel::kSequence},
                         {"sequence_mean", rl::RatioLevel::kSequenceMean}},
                        o.ratio, problems);
  Parse<OldLogprobs>("old_logprobs", l.old_logprobs(),
                     {{"recomputed", OldLogprobs::kRecomputed},
                      {"behaviour", OldLogprobs::kBehaviour}},
                     o.old_logprobs, problems);
  Parse<rl::RatioLevel>("importance_level", l.importance_level(),
                        {{"token", rl::RatioLevel::kToken},
                         {"sequence", rl::RatioLevel::kSequence}},
                        o.importance_level, problems);
  Parse<rl::AboveCap>(
      "importance_above", l.importance_above(),
      {{"truncate", rl::AboveCap::kTruncate}, {"drop", rl::AboveCap::kDrop}},
      o.importance_above, problems);
}

void ParseValuesAndRewards(const config::v1::Learner& l, TrainerOptions& o,
                           std::vector<std::string>& problems) {
  Parse<ValueModelKind>("value_model", l.value_model(),
                        {{"head", ValueModelKind::kHead},
                         {"separate", ValueModelKind::kSeparate}},
                        o.value_model, problems);
  Parse<bool>("value_normalisation", l.value_normalisation(),
              {{"none", false}, {"popart", true}}, o.popart, problems);
  Parse<bool>("reward_normalisation", l.reward_normalisation(),
              {{"none", false}, {"running", true}}, o.normalise_rewards,
              problems);
  Parse<rl::ScorePlacement>("score_placement", l.score_placement(),
                            {{"last_token", rl::ScorePlacement::kLastToken},
                             {"after_end", rl::ScorePlacement::kAfterEnd}},
                            o.score_placement, problems);
  Parse<rl::EpsilonIn>("whitening_epsilon_in", l.whitening_epsilon_in(),
                       {{"deviation", rl::EpsilonIn::kDeviation},
                        {"variance", rl::EpsilonIn::kVariance}},
                       o.whitening_epsilon_in, problems);
  Parse<GroupScale>(
      "group_scale", l.group_scale(),
      {{"group", GroupScale::kGroup}, {"batch", GroupScale::kBatch}},
      o.group_scale, problems);
}

// Settings that contradict each other or that nothing would read.
void CheckCombinations(const config::v1::Learner& l, const TrainerOptions& o,
                       std::vector<std::string>& problems) {
  const bool ppo = o.algorithm == Algorithm::kPpo;
  if (l.preset() == "paper" && !ppo) {
    problems.push_back(
        absl::StrCat("learner.preset: paper is ppo, learner.algorithm is ",
                     l.algorithm(), "; leave out one of them"));
    return;
  }
  const auto only = [&](bool set, bool fits, const char* key,
                        const std::string& needs) {
    if (!set || fits) return;
    problems.push_back(absl::StrCat(
        "learner.", key, ": has a meaning with ", needs, " only",
        l.preset() == "paper" ? "; learner.preset may have set it" : ""));
  };
  const std::string ppo_needed =
      absl::StrCat("learner.algorithm ppo (it is ", l.algorithm(), ")");
  only(o.value_model == ValueModelKind::kSeparate, ppo, "value_model: separate",
       ppo_needed);
  only(o.popart, ppo, "value_normalisation: popart", ppo_needed);
  only(o.score_placement == rl::ScorePlacement::kAfterEnd, ppo,
       "score_placement: after_end", ppo_needed);
  const TrainerOptions usual;
  only(o.clip_value != usual.clip_value, ppo, "clip_value", ppo_needed);
  only(o.value_coef != usual.value_coef, ppo, "value_coef", ppo_needed);
  only(o.value_learning_rate > 0, ppo, "value_learning_rate", ppo_needed);
  only(o.lambda != usual.lambda, ppo, "lambda", ppo_needed);
  only(o.gamma != usual.gamma,
       ppo || o.algorithm == Algorithm::kReinforcePlusPlus ||
           o.algorithm == Algorithm::kReinforcePlusPlusBaseline,
       "gamma", "learner.algorithm ppo, reinforce_pp or its baseline");
  only(o.popart_rate != usual.popart_rate, o.popart, "popart_rate",
       "learner.value_normalisation popart");
  only(o.kl_max_ratio > 0, o.kl_estimator == rl::KlEstimator::kK3,
       "kl_max_ratio", "learner.kl_estimator k3");
  only(o.value_updates > 1, o.value_model == ValueModelKind::kHead,
       "value_updates above 1", "learner.value_model head");
  only(o.group_scale == GroupScale::kBatch, o.algorithm == Algorithm::kGrpo,
       "group_scale: batch",
       absl::StrCat("learner.algorithm grpo (it is ", l.algorithm(), ")"));
  only(o.whitening_block > 0, o.advantage_whitening == rl::Whitening::kBatch,
       "whitening_block", "learner.advantage_whitening batch");
  only(o.importance_level != rl::RatioLevel::kToken ||
           o.importance_above != rl::AboveCap::kTruncate,
       o.truncated_importance > 0, "importance_level and importance_above",
       "learner.truncated_importance above 0");
  only(o.truncated_importance > 0, o.old_logprobs == OldLogprobs::kRecomputed,
       "truncated_importance", "learner.old_logprobs recomputed");
  only(o.kl_ratio_weighted, o.kl_in == KlPlace::kLoss, "kl_ratio_weighted",
       "learner.kl_in loss");
  if (o.dual_clip > 0 && o.dual_clip <= 1 + o.clip_high) {
    problems.push_back(absl::StrCat(
        "learner.dual_clip: expected 0 or more than 1 + clip_high = ",
        1 + o.clip_high, ", got ", o.dual_clip));
  }
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
  o.dual_clip = l.dual_clip();
  o.popart_rate = l.popart_rate();
  o.whitening_block = l.whitening_block();
  o.loss_block = l.loss_block();
  o.reward_clip = l.reward_clip();
  o.kl_ratio_weighted = l.kl_ratio_weighted();
}

}  // namespace

absl::StatusOr<TrainerOptions> TrainerOptionsFrom(
    const config::v1::RunConfig& config) {
  TrainerOptions options;
  std::vector<std::string> problems;
  ParseNames(config.learner(), options, problems);
  ParseRatios(config.learner(), options, problems);
  ParseValuesAndRewards(config.learner(), options, problems);
  CopyNumbers(config.learner(), options);
  CheckCombinations(config.learner(), options, problems);
  options.seed = static_cast<uint64_t>(config.run().seed());
  if (config.run().steps() > 0) options.total_steps = config.run().steps();
  if (config.generation().max_new_tokens() > 0) {
    options.constant_length = config.generation().max_new_tokens();
  }
  const bool grouped =
      options.algorithm == Algorithm::kRloo ||
      options.algorithm == Algorithm::kGrpo ||
      options.algorithm == Algorithm::kDrGrpo ||
      options.algorithm == Algorithm::kReinforcePlusPlusBaseline;
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
  const config::v1::Learner& l = config.learner();
  if (l.ranks() > 1 && absl::StrContains(l.device(), ":")) {
    problems.push_back(absl::StrCat(
        "learner.device: expected cpu or cuda with learner.ranks above 1, "
        "where each rank takes a GPU of its own, got ",
        l.device()));
  }
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  }
  if (l.gradient_checkpointing()) {
    options.activations = model::Activations::kRecomputed;
  }
  // Not said in a configuration that was not filled in.
  MPO_ASSIGN_OR_RETURN(
      options.placement,
      model::ParsePlacement(l.dtype().empty() ? "float32" : l.dtype(),
                            l.device().empty() ? "cpu" : l.device()));
  return options;
}

}  // namespace mpo::policy_learner
