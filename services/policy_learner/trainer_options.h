// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "mpo/model/decoder.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/rl/aggregation.h"
#include "mpo/rl/gae.h"
#include "mpo/rl/kl.h"
#include "mpo/rl/policy_loss.h"
#include "mpo/rl/whitening.h"

namespace mpo::policy_learner {

enum class Algorithm {
  kPpo,
  kGrpo,
  kDrGrpo,
  kRloo,
  kReinforcePlusPlus,
  kReinforcePlusPlusBaseline,
};
enum class LrSchedule { kConstant, kLinear, kCosine };
enum class KlPlace { kReward, kLoss };
enum class OldLogprobs { kRecomputed, kBehaviour };
enum class GroupScale { kGroup, kBatch };
enum class ValueModelKind { kHead, kSeparate };

// Everything an update depends on besides the batch and the weights. Meanings
// and defaults are those of mpo/config/v1/config.proto (Learner);
// docs/algorithms.md has the formulas.
struct TrainerOptions {
  Algorithm algorithm = Algorithm::kPpo;
  double learning_rate = 3e-6;
  LrSchedule lr_schedule = LrSchedule::kLinear;
  int64_t total_steps = 1;  // Length of the schedule.
  int64_t warmup_steps = 0;
  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 0;  // 0 = off.
  int epochs = 4;
  int minibatches = 1;
  int64_t micro_batch_tokens = 4096;
  double kl_coef = 0.02;
  rl::KlEstimator kl_estimator = rl::KlEstimator::kK1;
  KlPlace kl_in = KlPlace::kReward;
  double kl_max_ratio = 0;         // Bound of exp(d) in k3; 0 = off.
  bool kl_ratio_weighted = false;  // Of KlPlace::kLoss.
  double clip_low = 0.2;
  double clip_high = 0.2;
  double dual_clip = 0;  // 0 = off.
  rl::RatioLevel ratio = rl::RatioLevel::kToken;
  OldLogprobs old_logprobs = OldLogprobs::kRecomputed;
  double clip_value = 0.2;  // 0 = off.
  double value_coef = 0.1;
  double value_learning_rate = 0;  // 0 = learning_rate.
  int value_updates = 1;           // Of the value head, per optimiser step.
  ValueModelKind value_model = ValueModelKind::kHead;
  bool popart = false;
  double popart_rate = 0.01;
  rl::ScorePlacement score_placement = rl::ScorePlacement::kLastToken;
  double gamma = 1;
  double lambda = 0.95;
  double entropy_coef = 0;
  rl::Whitening advantage_whitening = rl::Whitening::kBatch;
  double whitening_epsilon = 1e-8;
  rl::EpsilonIn whitening_epsilon_in = rl::EpsilonIn::kDeviation;
  int64_t whitening_block = 0;  // Samples whitened together; 0 = all.
  GroupScale group_scale = GroupScale::kGroup;
  rl::LossAggregation loss_aggregation = rl::LossAggregation::kTokenMean;
  int64_t constant_length = 400;  // Of LossAggregation::kConstant, tokens.
  int64_t loss_block = 0;         // Samples averaged together; 0 = all.
  double missing_eos_penalty = 0;
  double truncated_importance = 0;  // 0 = off.
  rl::RatioLevel importance_level = rl::RatioLevel::kToken;
  rl::AboveCap importance_above = rl::AboveCap::kTruncate;
  double reward_scale = 1;
  bool normalise_rewards = false;
  double reward_clip = 0;  // 0 = off.
  int max_nonfinite_steps = 3;
  uint64_t seed = 0;  // Of the initial adapter and of minibatch shuffles.
  std::optional<model::LoraConfig> lora;  // Empty = full weights.
  // Of the passes; what is trained stays float32 (on the same device).
  model::LoadOptions placement = {};
  model::Activations activations = model::Activations::kKept;
};

}  // namespace mpo::policy_learner
