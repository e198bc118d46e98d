// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "mpo/base/clock.h"
#include "mpo/model/decoder.h"
#include "services/policy_learner/optimiser.h"
#include "services/policy_learner/policy_model.h"
#include "services/policy_learner/training_batch.h"
#include "services/policy_learner/value_head.h"

namespace mpo::policy_learner {

struct StepResult;

// One update of the policy from one batch: the frozen trunk once, reference
// and old log-probs without gradient, then epochs x minibatches x
// micro-batches. Used once. Not thread-safe; LibTorch's exceptions pass
// through.
class PolicyUpdate {
 public:
  PolicyUpdate(const TrainerOptions& options, const PolicyModel& model,
               Optimiser& optimiser, ValueHead& value_head, Clock& clock,
               const std::function<void(const char*)>& on_phase);

  StepResult Run(int64_t step, const std::vector<TrainingSample>& samples);

 private:
  // Rows that run through the model together, and where their response tokens
  // lie.
  struct MicroBatch {
    std::vector<PackedRow> rows;
    model::SequenceBatch sequences;
    at::Tensor hidden_index;  // [N] into the flattened [rows, length].
    at::Tensor token_index;   // [N] into the flattened [B, T].
  };
  struct Totals {  // Sums over optimiser steps.
    double policy_loss = 0, value_loss = 0, clipped = 0, grad_norm = 0;
    int steps = 0;
  };

  // Activations below the first trainable layer.
  struct TrunkPart {
    at::Tensor prompt;    // [prompt length, D]
    at::Tensor response;  // [response length - 1, D]
  };

  MicroBatch MakeMicroBatch(std::vector<PackedRow> rows) const;
  // Input of the first trainable layer, from the cache where there is a trunk.
  at::Tensor Trunk(const MicroBatch& micro, bool reference);
  // Calls visit(packed row, sample, offset of its response in the row).
  template <typename Visit>
  void ForEachSample(const MicroBatch& micro, Visit visit) const;
  // Normed final hidden states [N, D] at the positions that predict responses.
  at::Tensor Hidden(const MicroBatch& micro, bool reference);
  // The policy's head matrix, with the adapter's update where it has one.
  at::Tensor PolicyHead() const;
  void Prepare();
  std::vector<std::vector<int64_t>> Minibatches(int64_t step, int epoch) const;
  // One optimiser step; false when it was skipped as not finite.
  bool TrainMinibatch(const std::vector<int64_t>& rows, bool first_epoch);
  // Adds a micro-batch's gradient; returns its share of the loss.
  double Accumulate(const MicroBatch& micro, const at::Tensor& weights,
                    bool first_epoch, at::Tensor* hidden_out);
  bool FitValues(const std::vector<at::Tensor>& hidden,
                 const std::vector<at::Tensor>& tokens,
                 const at::Tensor& weights);
  at::Tensor Take(const at::Tensor& matrix, const MicroBatch& micro) const;
  void Put(at::Tensor& matrix, const MicroBatch& micro,
           const at::Tensor& values) const;
  // Charges the time since the last call to the phase that ran.
  void Enter(const char* phase);
  StepResult Finish(bool finite);

  const TrainerOptions& options_;
  const PolicyModel& model_;
  Optimiser& optimiser_;
  ValueHead& value_head_;
  Clock& clock_;
  const std::function<void(const char*)>& on_phase_;

  TrainingBatch batch_;
  rl::Advantages advantages_;
  at::Tensor temperatures_;                                          // [B, T]
  at::Tensor old_logprobs_, reference_logprobs_, values_, entropy_;  // [B, T]
  bool old_known_ = false;  // old_logprobs_ hold the policy before the update.
  std::vector<TrunkPart> trunk_;  // One a row; empty until computed.
  double learning_rate_ = 0, value_learning_rate_ = 0;
  Totals totals_;
  std::map<std::string, double> seconds_;
  std::string phase_;
  absl::Time phase_began_;
};

}  // namespace mpo::policy_learner
