// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/value_head.h"

#include <torch/torch.h>

#include <cmath>

#include "mpo/rl/value_loss.h"

namespace mpo::policy_learner {
namespace {

std::vector<tensor::NamedTensor> NewLeaves(int64_t hidden_size) {
  return {
      {"value_head.weight", torch::zeros({hidden_size}).requires_grad_(true)},
      {"value_head.bias", torch::zeros({1}).requires_grad_(true)}};
}

at::Tensor Apply(const std::vector<tensor::NamedTensor>& leaves,
                 const at::Tensor& hidden) {
  return at::mv(hidden, leaves[0].tensor) + leaves[1].tensor;
}

}  // namespace

ValueHead::ValueHead(int64_t hidden_size, const TrainerOptions& options)
    : options_(options),
      leaves_(NewLeaves(hidden_size)),
      optimiser_(leaves_, options, /*weight_decay=*/0) {}

at::Tensor ValueHead::Values(const at::Tensor& hidden) const {
  at::NoGradGuard no_grad;
  return Apply(leaves_, hidden);
}

double ValueHead::Fit(const at::Tensor& hidden, const at::Tensor& old_values,
                      const at::Tensor& returns, const at::Tensor& weights,
                      double learning_rate) {
  double first = 0;
  for (int i = 0; i < options_.value_updates; ++i) {
    optimiser_.ZeroGrad();
    const at::Tensor loss =
        (weights * rl::ClippedValueLoss(Apply(leaves_, hidden), old_values,
                                        returns, options_.clip_value)
                       .loss)
            .sum();
    const double value = loss.item<double>();
    if (i == 0) first = value;
    if (!std::isfinite(value)) return value;
    (loss * options_.value_coef).backward();
    if (!std::isfinite(optimiser_.ClipGradients(options_.max_grad_norm))) {
      return std::nan("");
    }
    optimiser_.Step(learning_rate);
  }
  return first;
}

std::vector<tensor::NamedTensor> ValueHead::OptimiserState() const {
  return optimiser_.State("value.");
}

absl::Status ValueHead::RestoreOptimiser(
    const std::vector<tensor::NamedTensor>& state, const std::string& source) {
  return optimiser_.Restore(state, "value.", source);
}

}  // namespace mpo::policy_learner
