// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/training_batch.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "mpo/rl/group_statistics.h"
#include "mpo/rl/grpo.h"
#include "mpo/rl/reinforce_pp.h"
#include "mpo/rl/rloo.h"

namespace mpo::policy_learner {
namespace {

// Micro-batches smaller than this cost more in overhead than padding does.
constexpr int64_t kSmallMicroBatch = 512;
// Attention over a pack grows with the square of its length; beyond this it
// costs more than a prompt that is computed again.
constexpr int64_t kLongestPack = 512;

// Whitens as configured over the entries of `mask`, [B] or [B, T].
at::Tensor WhitenAdvantages(const TrainerOptions& options,
                            const TrainingBatch& batch,
                            const at::Tensor& advantages,
                            const at::Tensor& mask) {
  const double epsilon = options.whitening_epsilon;
  const rl::EpsilonIn in = options.whitening_epsilon_in;
  if (options.advantage_whitening == rl::Whitening::kGroup) {
    return rl::WhitenGroups(advantages, mask, batch.groups, epsilon, in);
  }
  if (options.advantage_whitening == rl::Whitening::kNone) return advantages;
  if (options.whitening_block <= 0) {
    return rl::Whiten(advantages, mask, epsilon, in);
  }
  // Only rows that are trained on count.
  const at::Tensor blocks = torch::zeros_like(batch.groups);
  for (size_t i = 0; i < batch.active.size(); ++i) {
    blocks[batch.active[i]] = static_cast<int64_t>(i) / options.whitening_block;
  }
  return rl::WhitenGroups(advantages, mask, blocks, epsilon, in);
}

at::Tensor SequenceAdvantages(const TrainerOptions& options,
                              const TrainingBatch& batch,
                              const at::Tensor& kl) {
  at::Tensor scores = batch.scores;
  if (options.kl_in == KlPlace::kReward && options.kl_coef != 0) {
    scores = scores - options.kl_coef * at::where(batch.mask, kl, 0.0).sum(1);
  }
  const at::Tensor trained = batch.mask.any(1);
  const at::Tensor usable =
      rl::ComputeGroupStatistics(scores, trained, batch.groups).usable;
  at::Tensor advantages;
  if (options.algorithm == Algorithm::kRloo) {
    advantages = rl::RlooAdvantages(scores, trained, batch.groups);
  } else if (options.algorithm == Algorithm::kGrpo) {
    advantages =
        options.group_scale == GroupScale::kBatch
            ? rl::GrpoBatchScaledAdvantages(scores, trained, batch.groups)
            : rl::GrpoAdvantages(scores, trained, batch.groups);
  } else {
    advantages = rl::DrGrpoAdvantages(scores, trained, batch.groups);
  }
  advantages = WhitenAdvantages(options, batch, advantages, usable);
  return at::where(batch.mask, advantages.unsqueeze(1), 0.0);
}

// Scores before the penalty for a missing end.
void NormaliseAndClip(const TrainerOptions& options, rl::Moments* moments,
                      const at::Tensor& scored, at::Tensor& scores) {
  if (options.normalise_rewards) {
    rl::Moments alone;
    if (moments == nullptr) moments = &alone;
    *moments = rl::Merge(*moments, scores.masked_select(scored));
    scores = at::where(scored, rl::Normalise(scores, *moments), 0.0);
  }
  if (options.reward_clip > 0) {
    scores = scores.clamp(-options.reward_clip, options.reward_clip);
  }
}

bool HasFinalValue(const TrainerOptions& options) {
  return options.algorithm == Algorithm::kPpo &&
         options.score_placement == rl::ScorePlacement::kAfterEnd;
}

}  // namespace

TrainingBatch MakeTrainingBatch(const std::vector<TrainingSample>& samples,
                                const TrainerOptions& options,
                                rl::Moments* moments) {
  const auto rows = static_cast<int64_t>(samples.size());
  size_t longest = 1;
  for (const TrainingSample& s : samples) {
    longest = std::max(longest, s.rollout.response_tokens.size());
  }
  TrainingBatch batch;
  const auto length = static_cast<int64_t>(longest);
  batch.scores = torch::zeros({rows});
  batch.raw_rewards = torch::zeros({rows});
  batch.scored = torch::zeros({rows}, torch::kBool);
  batch.groups = torch::zeros({rows}, torch::kLong);
  batch.temperatures = torch::ones({rows});
  batch.targets = torch::zeros({rows, length}, torch::kLong);
  batch.behaviour = torch::zeros({rows, length});
  batch.mask = torch::zeros({rows, length}, torch::kBool);
  const bool adjust = options.normalise_rewards || options.reward_clip > 0;
  const at::Tensor penalties = torch::zeros({rows});
  std::map<std::string, int64_t> groups;
  for (int64_t i = 0; i < rows; ++i) {
    const Rollout& rollout = samples[i].rollout;
    const Verdict& verdict = samples[i].verdict;
    const auto tokens = static_cast<int64_t>(rollout.response_tokens.size());
    std::vector<int32_t> input = rollout.prompt_tokens;
    if (tokens > 0) {
      input.insert(
          input.end(), rollout.response_tokens.begin(),
          rollout.response_tokens.end() - (HasFinalValue(options) ? 0 : 1));
    }
    batch.inputs.push_back(std::move(input));
    batch.prompt_lengths.push_back(
        static_cast<int64_t>(rollout.prompt_tokens.size()));
    batch.response_lengths.push_back(tokens);
    batch.groups[i] =
        groups.try_emplace(rollout.group, groups.size()).first->second;
    batch.temperatures[i] = rollout.temperature;
    if (!verdict.scored) continue;
    batch.scored[i] = true;
    batch.raw_rewards[i] = verdict.reward;
    const double penalty = rollout.finish_reason == FinishReason::kStop
                               ? 0
                               : options.missing_eos_penalty;
    penalties[i] = penalty;
    batch.scores[i] =
        verdict.reward * options.reward_scale - (adjust ? 0 : penalty);
    if (tokens == 0) continue;
    batch.active.push_back(i);
    for (int64_t t = 0; t < tokens; ++t) {
      batch.targets.data_ptr<int64_t>()[i * length + t] =
          rollout.response_tokens[t];
      batch.behaviour.data_ptr<float>()[i * length + t] = rollout.logprobs[t];
      batch.mask.data_ptr<bool>()[i * length + t] = true;
    }
  }
  batch.value_mask = HasFinalValue(options)
                         ? rl::ValueMask(batch.mask, options.score_placement)
                         : batch.mask;
  if (adjust) {
    NormaliseAndClip(options, moments, batch.scored, batch.scores);
    batch.scores = batch.scores - penalties;
  }
  return batch;
}

rl::Advantages ComputeAdvantages(const TrainerOptions& options,
                                 const TrainingBatch& batch,
                                 const at::Tensor& kl,
                                 const at::Tensor& values) {
  at::NoGradGuard no_grad;
  const bool ppo = options.algorithm == Algorithm::kPpo;
  const bool baseline =
      options.algorithm == Algorithm::kReinforcePlusPlusBaseline;
  if (!ppo && !baseline && options.algorithm != Algorithm::kReinforcePlusPlus) {
    return {SequenceAdvantages(options, batch, kl), {}};
  }
  const double kl_coef =
      options.kl_in == KlPlace::kReward ? options.kl_coef : 0;
  const rl::ScorePlacement placement =
      ppo ? options.score_placement : rl::ScorePlacement::kLastToken;
  at::Tensor scores = batch.scores;
  at::Tensor counted = batch.mask;
  if (baseline) {
    // A sample without company has no baseline: it says nothing.
    const at::Tensor trained = batch.mask.any(1);
    scores = rl::ReinforcePlusPlusScores(scores, trained, batch.groups);
    counted = counted.logical_and(
        rl::ComputeGroupStatistics(scores, trained, batch.groups)
            .usable.unsqueeze(1));
  }
  const at::Tensor rewards =
      rl::TokenRewards(scores, kl, kl_coef, batch.mask, placement);
  rl::Advantages result;
  if (ppo) {
    result = rl::GeneralisedAdvantages(rewards, values, batch.value_mask,
                                       options.gamma, options.lambda);
  } else {
    result.advantages =
        rl::ReinforcePlusPlusAdvantages(rewards, counted, options.gamma);
  }
  result.advantages =
      WhitenAdvantages(options, batch, result.advantages, counted);
  return result;
}

std::vector<std::vector<PackedRow>> PlanMicroBatches(
    const TrainingBatch& batch, const std::vector<int64_t>& rows,
    int64_t token_budget) {
  std::vector<PackedRow> packed;
  std::map<std::vector<int32_t>, size_t> open;  // Last pack of a prompt.
  const int64_t longest_pack = std::min(token_budget, kLongestPack);
  for (int64_t row : rows) {
    const std::vector<int32_t>& input = batch.inputs[row];
    const int64_t prompt = batch.prompt_lengths[row];
    const auto length = static_cast<int64_t>(input.size());
    const std::vector<int32_t> key(input.begin(), input.begin() + prompt);
    const auto it = open.find(key);
    if (it != open.end() &&
        packed[it->second].length + length - prompt <= longest_pack) {
      packed[it->second].samples.push_back(row);
      packed[it->second].length += length - prompt;
      continue;
    }
    open[key] = packed.size();
    packed.push_back({{row}, length});
  }
  std::stable_sort(packed.begin(), packed.end(),
                   [](const PackedRow& a, const PackedRow& b) {
                     return a.length > b.length;
                   });
  std::vector<std::vector<PackedRow>> plan;
  int64_t longest = 0;
  int64_t tokens = 0;
  for (PackedRow& row : packed) {
    if (!plan.empty()) {
      const auto padded =
          longest * (static_cast<int64_t>(plan.back().size()) + 1);
      const bool wasteful = tokens >= kSmallMicroBatch &&
                            (padded - tokens - row.length) * 10 > padded;
      if (padded <= token_budget && !wasteful) {
        tokens += row.length;
        plan.back().push_back(std::move(row));
        continue;
      }
    }
    longest = tokens = row.length;
    plan.push_back({std::move(row)});
  }
  return plan;
}

}  // namespace mpo::policy_learner
