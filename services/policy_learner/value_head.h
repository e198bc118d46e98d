// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "mpo/rl/popart.h"
#include "mpo/tensor/codec.h"
#include "services/policy_learner/optimiser.h"
#include "services/policy_learner/trainer_options.h"

namespace mpo::policy_learner {

// What a value loss is computed from, one entry a position with a value.
struct ValueTargets {
  at::Tensor old_values;  // [N]
  at::Tensor returns;     // [N]
  at::Tensor weights;     // [N] that add the positions up to the loss.
};

// Value function of PPO: one linear output on a final hidden state, with an
// AdamW of its own. Starts at 0. The hidden state is the policy's, which it
// only reads (no gradient reaches the policy: Fit), or that of a value model
// whose weights are `trunk` and are trained with it (ZeroGrad, Loss, Step).
// With options.popart it predicts normalised values (mpo/rl/popart.h). Not
// thread-safe; LibTorch's exceptions pass through.
class ValueHead {
 public:
  ValueHead(int64_t hidden_size, const TrainerOptions& options,
            std::vector<tensor::NamedTensor> trunk = {},
            collective::ProcessGroup* group = nullptr);

  // [N] values, on the CPU, of hidden states [N, D] of any dtype on the device
  // of options.placement; no gradient.
  at::Tensor Values(const at::Tensor& hidden) const;

  // Follows the scale of `returns` [N] with options.popart; else nothing.
  void Follow(const at::Tensor& returns);

  // options.value_updates optimiser steps on the clipped value loss; returns
  // the loss before the first (not finite: the fit ended there). In a group
  // each rank gives its positions and gets its share of the loss.
  double Fit(const at::Tensor& hidden, const ValueTargets& targets,
             double learning_rate);

  // The clipped value loss, differentiable in head and `hidden` [N, D]. Adds
  // the share of positions where the bound decided, each counted by its
  // weight, to `clipped` unless that is null.
  at::Tensor Loss(const at::Tensor& hidden, const ValueTargets& targets,
                  double* clipped) const;
  void ZeroGrad() { optimiser_.ZeroGrad(); }
  // In a group: before Step, the ranks' gradients become their sum.
  void SumGradients() const { optimiser_.SumGradients({}); }
  // One optimiser step; false, and nothing changed, when a gradient is not
  // finite.
  bool Step(double learning_rate);

  // Share of positions clipped in the first step of the last Fit.
  double clipped() const { return clipped_; }

  std::vector<tensor::NamedTensor> Weights() const { return leaves_; }
  const rl::PopArt& popart() const { return popart_; }
  void set_popart(const rl::PopArt& popart) { popart_ = popart; }
  // As Optimiser::State and FreshState.
  std::vector<tensor::NamedTensor> OptimiserState() const;
  std::vector<tensor::NamedTensor> FreshOptimiserState() const;
  absl::Status RestoreOptimiser(const std::vector<tensor::NamedTensor>& state,
                                const std::string& source);

 private:
  TrainerOptions options_;
  std::vector<tensor::NamedTensor> leaves_;  // weight [D], bias [1].
  Optimiser optimiser_;                      // Of the head and the trunk.
  rl::PopArt popart_;
  double clipped_ = 0;
};

}  // namespace mpo::policy_learner
