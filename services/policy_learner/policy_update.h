// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mpo/base/clock.h"
#include "mpo/model/decoder.h"
#include "mpo/rl/moments.h"
#include "mpo/rl/policy_loss.h"
#include "mpo/rl/selective_logprob.h"
#include "services/policy_learner/data_parallel.h"
#include "services/policy_learner/optimiser.h"
#include "services/policy_learner/policy_model.h"
#include "services/policy_learner/training_batch.h"
#include "services/policy_learner/value_head.h"

namespace mpo::policy_learner {

struct StepResult;

// What predicts PPO's values: a head on the policy's hidden states, or on those
// of a trunk of its own.
struct ValueFunction {
  ValueHead& head;
  model::MasterWeights* trunk;  // Null = the policy's.
};

// One update of the policy from one batch: the frozen trunk once, reference
// and old log-probs without gradient, then epochs x minibatches x
// micro-batches. In a group each rank gets the whole batch and runs its rows of
// it; the result is the same on all. Used once. Not thread-safe; LibTorch's
// exceptions and GroupFailure pass through.
class PolicyUpdate {
 public:
  PolicyUpdate(const TrainerOptions& options, PolicyModel& model,
               Optimiser& optimiser, const ValueFunction& value_function,
               rl::Moments& rewards, Clock& clock,
               const std::function<void(const char*)>& on_phase,
               const DataParallel& parallel);

  StepResult Run(int64_t step, const std::vector<TrainingSample>& samples);

 private:
  // Rows that run through the model together, and where their response tokens
  // lie.
  struct MicroBatch {
    std::vector<PackedRow> rows;
    model::SequenceBatch sequences;
    // Positions of [rows, length] whose final hidden states are used,
    // ascending.
    at::Tensor needed_index;
    at::Tensor hidden_index;    // [N] into the needed positions.
    at::Tensor token_index;     // [N] into the flattened [B, T].
    at::Tensor response_index;  // [N] which response, in [0, responses).
    // The same two for the positions that have a value.
    at::Tensor value_hidden_index, value_token_index;
  };
  struct Totals {  // Sums over optimiser steps.
    double policy_loss = 0, value_loss = 0, clipped = 0, grad_norm = 0;
    double value_clipped = 0, dual_clipped = 0;
    int steps = 0;
  };

  // What the passes before the first optimiser step left for it, gradient
  // included. Its weights are still those of that time.
  struct FirstPass {
    at::Tensor layers;  // Layers(micro, false); undefined = nothing was kept.
    std::optional<rl::TokenStatistics> token;
    at::Tensor value_hidden;  // Of a value model of its own.
  };

  // Activations below the first trainable layer, from the actor or computed
  // here.
  struct TrunkPart {
    at::Tensor prompt;    // [prompt length, D]
    at::Tensor response;  // [tokens of the response in the input, D]
  };

  MicroBatch MakeMicroBatch(std::vector<PackedRow> rows) const;
  // Input of the first trainable layer, from the cache where there is a trunk.
  at::Tensor Trunk(const MicroBatch& micro, bool reference);
  // Calls visit(packed row, sample, offset of its response in the row).
  template <typename Visit>
  void ForEachSample(const MicroBatch& micro, Visit visit) const;
  // Tokens of a sample's response that are fed to the model.
  int64_t FedTokens(int64_t sample) const {
    return static_cast<int64_t>(batch_.inputs[sample].size()) -
           batch_.prompt_lengths[sample];
  }
  // Final hidden states [needed, D] of policy or reference.
  at::Tensor Layers(const MicroBatch& micro, bool reference);
  // Normed rows `index` of final hidden states, [N, D].
  static at::Tensor Normed(const model::LanguageModel& weights,
                           const at::Tensor& layers, const at::Tensor& index);
  // Normed final hidden states [N, D] at the positions that predict responses.
  at::Tensor Hidden(const MicroBatch& micro, bool reference);
  // Those of `layers` at the positions that have a value, or of the value
  // model's own trunk.
  at::Tensor ValueHidden(const MicroBatch& micro, const at::Tensor& layers);
  rl::PolicyLoss TokenLoss(const MicroBatch& micro, const at::Tensor& old,
                           const at::Tensor& log_ratio) const;
  // The policy's head matrix, with the adapter's update where it has one.
  at::Tensor PolicyHead() const;
  // Takes the trunks that came with the rollouts.
  void TakeTrunks(const std::vector<TrainingSample>& samples);
  // False when advantages or returns are not finite; then nothing has changed.
  bool Prepare();
  // Log-probs and entropies of the response tokens under `head`, on the CPU, as
  // is all of an update but the models.
  rl::TokenStatistics Tokens(const MicroBatch& micro, const at::Tensor& hidden,
                             const at::Tensor& head,
                             const rl::SelectiveLogprobOptions& options) const;
  // The policy's, differentiable.
  rl::TokenStatistics PolicyTokens(const MicroBatch& micro,
                                   const at::Tensor& layers) const;
  std::vector<std::vector<int64_t>> Minibatches(int64_t step, int epoch) const;
  // One optimiser step; false when it was skipped as not finite.
  bool TrainMinibatch(const std::vector<int64_t>& rows, bool first_epoch);
  // Adds a micro-batch's gradient; returns its share of the loss. With a value
  // head on the policy, `value_hidden` gets what the head reads.
  double Accumulate(const MicroBatch& micro, const at::Tensor& weights,
                    bool first_epoch, at::Tensor* value_hidden);
  // The same for a value model of its own.
  double AccumulateValues(const MicroBatch& micro, const at::Tensor& weights);
  bool FitValues(const std::vector<at::Tensor>& hidden,
                 const std::vector<at::Tensor>& tokens,
                 const at::Tensor& weights);
  ValueTargets Targets(const at::Tensor& index,
                       const at::Tensor& weights) const;
  // Weights [B, T] of `mask` that aggregate the minibatch of `rows`.
  at::Tensor MinibatchWeights(const at::Tensor& mask,
                              const at::Tensor& rows) const;
  at::Tensor Take(const at::Tensor& matrix, const MicroBatch& micro) const;
  void Put(at::Tensor& matrix, const MicroBatch& micro,
           const at::Tensor& values) const;
  // Charges the time since the last call to the phase that ran.
  void Enter(const char* phase);
  // Brings what this rank knows of its rows only together with the others'.
  void CompleteFigures();
  StepResult Finish(bool finite);

  const TrainerOptions& options_;
  PolicyModel& model_;
  Optimiser& optimiser_;
  ValueFunction value_;
  rl::Moments& rewards_;
  Clock& clock_;
  const std::function<void(const char*)>& on_phase_;
  const DataParallel& parallel_;

  TrainingBatch batch_;
  rl::Advantages advantages_;
  at::Tensor temperatures_;                                          // [B, T]
  at::Tensor old_logprobs_, reference_logprobs_, values_, entropy_;  // [B, T]
  bool old_known_ = false;  // old_logprobs_ hold the policy before the update.
  // In a group: matrices that hold this rank's rows only.
  std::vector<at::Tensor> own_rows_only_;
  std::vector<TrunkPart> trunk_;  // One a row; empty until computed.
  FirstPass first_pass_;
  double learning_rate_ = 0, value_learning_rate_ = 0;
  Totals totals_;
  std::map<std::string, double> seconds_;
  std::string phase_;
  absl::Time phase_began_;
};

}  // namespace mpo::policy_learner
