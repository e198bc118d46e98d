// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "mpo/tensor/codec.h"
#include "services/policy_learner/optimiser.h"
#include "services/policy_learner/trainer_options.h"

namespace mpo::policy_learner {

// Value function of PPO: one linear output on the policy's final hidden state,
// which it only reads (no gradient reaches the policy), with its own AdamW.
// Starts at 0. Not thread-safe; LibTorch's exceptions pass through.
class ValueHead {
 public:
  ValueHead(int64_t hidden_size, const TrainerOptions& options);

  // [N] values of hidden states [N, D]; no gradient.
  at::Tensor Values(const at::Tensor& hidden) const;

  // options.value_updates optimiser steps on the clipped value loss; returns
  // the loss before the first (not finite: nothing was changed).
  //   hidden [N, D]; the rest [N]; weights add the tokens up to the loss.
  double Fit(const at::Tensor& hidden, const at::Tensor& old_values,
             const at::Tensor& returns, const at::Tensor& weights,
             double learning_rate);

  std::vector<tensor::NamedTensor> Weights() const { return leaves_; }
  std::vector<tensor::NamedTensor> OptimiserState() const;
  absl::Status RestoreOptimiser(const std::vector<tensor::NamedTensor>& state,
                                const std::string& source);

 private:
  TrainerOptions options_;
  std::vector<tensor::NamedTensor> leaves_;  // weight [D], bias [1].
  Optimiser optimiser_;
};

}  // namespace mpo::policy_learner
