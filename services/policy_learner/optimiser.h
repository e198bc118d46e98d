// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/tensor/codec.h"
#include "services/policy_learner/data_parallel.h"
#include "services/policy_learner/leaf_shard.h"
#include "services/policy_learner/trainer_options.h"

namespace torch::optim {
class AdamW;
}

namespace mpo::policy_learner {

// Factor on the learning rate at `step` (first is 1): rises over warmup_steps,
// times 1 (constant), 1 - (step - 1) / total (linear), or half a cosine.
double LearningRateFactor(const TrainerOptions& options, int64_t step);

// AdamW (Loshchilov & Hutter 2019; LibTorch's) over named leaves, with state
// that can be saved. In a group each rank has the state of an equal part of the
// leaves and updates that (LeafShard); SumGradients, Step and State are then
// collective and throw GroupFailure. Not thread-safe; LibTorch's exceptions
// pass through.
class Optimiser {
 public:
  Optimiser(std::vector<tensor::NamedTensor> leaves,
            const TrainerOptions& options, double weight_decay,
            collective::ProcessGroup* group = nullptr);
  ~Optimiser();

  bool shared() const { return parallel_.shared(); }
  void ZeroGrad();
  // In a group the gradients, and `numbers`, become the sums of the ranks'.
  void SumGradients(const std::vector<double*>& numbers) const;
  // Global L2 norm of the gradients; scaled down to `max_norm` when that is
  // above 0. Not finite when any gradient is not.
  double ClipGradients(double max_norm);
  void Step(double learning_rate);

  // "<prefix><leaf>.exp_avg", ".exp_avg_sq" and "<prefix>steps"; zeros before
  // the first step. In a group on rank 0 only, empty on the others.
  std::vector<tensor::NamedTensor> State(const std::string& prefix) const;
  // The same of an optimiser that has made no step, on every rank.
  std::vector<tensor::NamedTensor> FreshState(const std::string& prefix) const;
  // The inverse; tensors with other prefixes are left alone. INVALID_ARGUMENT
  // names a tensor that is missing or of another shape.
  absl::Status Restore(const std::vector<tensor::NamedTensor>& state,
                       const std::string& prefix, const std::string& source);

 private:
  std::vector<tensor::NamedTensor> SharedState(const std::string& prefix) const;

  std::vector<tensor::NamedTensor> leaves_;
  DataParallel parallel_;
  std::optional<LeafShard> shard_;  // In a group.
  std::unique_ptr<torch::optim::AdamW> adamw_;
};

}  // namespace mpo::policy_learner
