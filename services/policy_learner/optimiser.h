// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/tensor/codec.h"
#include "services/policy_learner/trainer_options.h"

namespace torch::optim {
class AdamW;
}

namespace mpo::policy_learner {

// Factor on the learning rate at `step` (first is 1): rises over warmup_steps,
// times 1 (constant), 1 - (step - 1) / total (linear), or half a cosine.
double LearningRateFactor(const TrainerOptions& options, int64_t step);

// AdamW (Loshchilov & Hutter 2019; LibTorch's) over named leaves, with state
// that can be saved. Not thread-safe; LibTorch's exceptions pass through.
class Optimiser {
 public:
  Optimiser(std::vector<tensor::NamedTensor> leaves,
            const TrainerOptions& options, double weight_decay);
  ~Optimiser();

  void ZeroGrad();
  // Global L2 norm of the gradients; scaled down to `max_norm` when that is
  // above 0. Not finite when any gradient is not.
  double ClipGradients(double max_norm);
  void Step(double learning_rate);

  // "<prefix><leaf>.exp_avg", ".exp_avg_sq" and "<prefix>steps"; zeros before
  // the first step.
  std::vector<tensor::NamedTensor> State(const std::string& prefix) const;
  // The inverse; tensors with other prefixes are left alone. INVALID_ARGUMENT
  // names a tensor that is missing or of another shape.
  absl::Status Restore(const std::vector<tensor::NamedTensor>& state,
                       const std::string& prefix, const std::string& source);

 private:
  std::vector<tensor::NamedTensor> leaves_;
  std::unique_ptr<torch::optim::AdamW> adamw_;
};

}  // namespace mpo::policy_learner
