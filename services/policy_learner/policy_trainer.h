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
#include "services/policy_learner/data_parallel.h"
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
// threads and ranks. In a group Train, Save and Load are collective: all ranks
// call them alike, and all get the errors of ProcessGroup. Not thread-safe.
class PolicyTrainer {
 public:
  // What rank 0 is about to do, so that the other ranks do it too.
  struct Work {
    enum class Kind { kTrain, kSave, kLoad };
    Kind kind = Kind::kTrain;
    int64_t step = 0;                                      // kTrain.
    const std::vector<TrainingSample>* samples = nullptr;  // kTrain.
  };

  // `reference` null = the base. INVALID_ARGUMENT when adapter or reference
  // does not fit the model. `group` null = one rank; else INTERNAL when the
  // ranks hold different models.
  static absl::StatusOr<std::unique_ptr<PolicyTrainer>> Create(
      std::shared_ptr<const model::LanguageModel> base,
      const TrainerOptions& options, Clock& clock,
      std::shared_ptr<const model::LanguageModel> reference = nullptr,
      std::shared_ptr<collective::ProcessGroup> group = nullptr);

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

  // On rank 0: `announce` is called before work that the others have a part
  // in, which ends with its error. Nothing can fail between the two on this
  // rank alone.
  void OnWork(std::function<absl::Status(const Work&)> announce) {
    announce_ = std::move(announce);
  }
  // A rank's part of rank 0's work. INVALID_ARGUMENT on rank 0.
  absl::Status Follow(const Work& work);

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
                std::unique_ptr<model::MasterWeights> value_trunk,
                const TrainerOptions& options, Clock& clock,
                std::shared_ptr<collective::ProcessGroup> group);
  absl::Status Announce(const Work& work) const {
    return announce_ ? announce_(work) : absl::OkStatus();
  }
  absl::StatusOr<StepResult> Update(int64_t step,
                                    const std::vector<TrainingSample>& samples);
  // What trainer.safetensors holds. Collective; in a group for rank 0 only.
  std::vector<tensor::NamedTensor> State() const;
  // The same of a trainer that has done nothing.
  std::vector<tensor::NamedTensor> FreshState() const;
  // Neither weights nor optimiser: value head, counters, statistics.
  void AppendStatistics(std::vector<tensor::NamedTensor>& state) const;
  absl::Status Restore(const std::vector<tensor::NamedTensor>& state,
                       const std::string& source);
  // In a group: weights and `state` become rank 0's.
  absl::Status Share(const std::vector<tensor::NamedTensor>& state);
  // The passes run on what the leaves are now.
  void Refresh();
  // Tensors of the value function and of the statistics, which Load overwrites.
  absl::Status LoadStatistics(const std::vector<tensor::NamedTensor>& state,
                              const std::string& source);

  const TrainerOptions options_;
  Clock& clock_;
  const std::shared_ptr<collective::ProcessGroup> group_;  // Null = alone.
  const DataParallel parallel_;
  PolicyModel model_;
  Optimiser optimiser_;
  std::unique_ptr<model::MasterWeights> value_trunk_;  // Null = the policy's.
  ValueHead value_head_;
  rl::Moments rewards_;
  int nonfinite_in_row_ = 0;
  std::function<void(const char*)> on_phase_;
  std::function<absl::Status(const Work&)> announce_;
};

}  // namespace mpo::policy_learner
