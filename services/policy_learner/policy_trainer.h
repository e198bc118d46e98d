// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/base/clock.h"
#include "mpo/model/language_model.h"
#include "services/policy_learner/optimiser.h"
#include "services/policy_learner/policy_model.h"
#include "services/policy_learner/trainer_options.h"
#include "services/policy_learner/training_batch.h"
#include "services/policy_learner/value_head.h"

namespace mpo::policy_learner {

// What one step left behind.
struct StepResult {
  // policy_loss and value_loss (means over optimiser steps), kl (k3, nats a
  // token, before the update), entropy (nats a token), clip_fraction,
  // grad_norm (before clipping), value_clip_fraction (PPO),
  // dual_clip_fraction (with dual_clip), reward (mean of scored),
  // learning_rate, unscorable (samples), tokens (response tokens trained on),
  // nonfinite (1 if an optimiser step was skipped).
  std::map<std::string, double> metrics;
  std::map<std::string, double> seconds;  // forward, backward, optimiser.
};

// Updates a policy from the batches of steps. The policy is the tempered
// softmax the samples were drawn from; the reference likewise. The same state
// and batch give the same weights bit for bit on a CPU with the same number of
// threads. Not thread-safe.
class PolicyTrainer {
 public:
  // `reference` null = the base. INVALID_ARGUMENT when adapter or reference
  // does not fit the model.
  static absl::StatusOr<std::unique_ptr<PolicyTrainer>> Create(
      std::shared_ptr<const model::LanguageModel> base,
      const TrainerOptions& options, Clock& clock,
      std::shared_ptr<const model::LanguageModel> reference = nullptr);

  // One update; `samples` in plan order, already validated. A batch without a
  // scored sample changes nothing. A loss or gradient that is not finite ends
  // the update before it reaches the weights and is counted; INTERNAL once
  // max_nonfinite_steps steps in a row had one.
  absl::StatusOr<StepResult> Train(int64_t step,
                                   const std::vector<TrainingSample>& samples);

  // Called with "forward", "backward" or "optimiser" when that phase begins.
  void OnPhase(std::function<void(const char*)> listener) {
    on_phase_ = std::move(listener);
  }

  const PolicyModel& model() const { return model_; }
  const TrainerOptions& options() const { return options_; }

  // Bytes that Save writes, nearly: weights and two moments of each.
  uint64_t CheckpointBytes() const;
  // Everything a later update depends on: weights, value head or model,
  // optimisers, statistics of rewards and returns, counters. Load leaves the
  // trainer unusable when it fails half-way.
  absl::Status Save(const std::filesystem::path& directory) const;
  absl::Status Load(const std::filesystem::path& directory);

 private:
  PolicyTrainer(PolicyModel model,
                std::shared_ptr<model::LanguageModel> value_trunk,
                const TrainerOptions& options, Clock& clock);
  // Tensors of the value function and of the statistics, which Load overwrites.
  absl::Status LoadStatistics(const std::vector<tensor::NamedTensor>& state,
                              const std::string& source);

  const TrainerOptions options_;
  Clock& clock_;
  PolicyModel model_;
  Optimiser optimiser_;
  std::shared_ptr<model::LanguageModel> value_trunk_;  // Null = the policy's.
  ValueHead value_head_;
  rl::Moments rewards_;
  int nonfinite_in_row_ = 0;
  std::function<void(const char*)> on_phase_;
};

}  // namespace mpo::policy_learner
