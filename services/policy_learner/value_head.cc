// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/value_head.h"

#include <torch/torch.h>

#include <cmath>

#include "mpo/rl/value_loss.h"

namespace mpo::policy_learner {
namespace {

std::vector<tensor::NamedTensor> NewLeaves(int64_t hidden_size,
                                           const at::Device& device) {
  const auto options = at::TensorOptions(device).requires_grad(true);
  return {{"value_head.weight", torch::zeros({hidden_size}, options)},
          {"value_head.bias", torch::zeros({1}, options)}};
}

at::Tensor Apply(const std::vector<tensor::NamedTensor>& leaves,
                 const at::Tensor& hidden) {
  return (at::mv(hidden.to(at::kFloat), leaves[0].tensor) + leaves[1].tensor)
      .to(at::kCPU);
}

std::vector<tensor::NamedTensor> Joined(
    std::vector<tensor::NamedTensor> head,
    const std::vector<tensor::NamedTensor>& trunk) {
  head.insert(head.end(), trunk.begin(), trunk.end());
  return head;
}

}  // namespace

ValueHead::ValueHead(int64_t hidden_size, const TrainerOptions& options,
                     std::vector<tensor::NamedTensor> trunk,
                     collective::ProcessGroup* group)
    : options_(options),
      leaves_(NewLeaves(hidden_size, options.placement.device)),
      optimiser_(Joined(leaves_, trunk), options,
                 trunk.empty() ? 0 : options.weight_decay, group) {}

at::Tensor ValueHead::Values(const at::Tensor& hidden) const {
  at::NoGradGuard no_grad;
  const at::Tensor values = Apply(leaves_, hidden);
  return options_.popart ? rl::Denormalise(values, popart_) : values;
}

void ValueHead::Follow(const at::Tensor& returns) {
  if (!options_.popart) return;
  const rl::PopArt next =
      rl::UpdateStatistics(popart_, returns, options_.popart_rate);
  // Before the first update the head predicts 0 whatever the scale; keeping
  // that value would make it predict the old mean.
  if (popart_.updates > 0) {
    rl::PreserveOutputs(leaves_[0].tensor, leaves_[1].tensor, popart_, next);
  }
  popart_ = next;
}

at::Tensor ValueHead::Loss(const at::Tensor& hidden,
                           const ValueTargets& targets, double* clipped) const {
  at::Tensor old_values = targets.old_values;
  at::Tensor returns = targets.returns;
  if (options_.popart) {
    old_values = rl::NormaliseValues(old_values, popart_);
    returns = rl::NormaliseValues(returns, popart_);
  }
  const rl::ValueLoss loss = rl::ClippedValueLoss(
      Apply(leaves_, hidden), old_values, returns, options_.clip_value);
  if (clipped != nullptr) {
    *clipped +=
        (targets.weights * loss.clipped.to(at::kFloat)).sum().item<double>();
  }
  return (targets.weights * loss.loss).sum();
}

bool ValueHead::Step(double learning_rate) {
  if (!std::isfinite(optimiser_.ClipGradients(options_.max_grad_norm))) {
    return false;
  }
  optimiser_.Step(learning_rate);
  return true;
}

double ValueHead::Fit(const at::Tensor& hidden, const ValueTargets& targets,
                      double learning_rate) {
  double first = 0;
  clipped_ = 0;
  for (int i = 0; i < options_.value_updates; ++i) {
    optimiser_.ZeroGrad();
    const at::Tensor loss = Loss(hidden, targets, i == 0 ? &clipped_ : nullptr);
    double value = loss.item<double>();
    if (i == 0) first = value;
    if (!optimiser_.shared() && !std::isfinite(value)) return value;
    (loss * options_.value_coef).backward();
    optimiser_.SumGradients({&value});
    if (!std::isfinite(value)) return value;
    if (!Step(learning_rate)) return std::nan("");
  }
  return first;
}

std::vector<tensor::NamedTensor> ValueHead::OptimiserState() const {
  return optimiser_.State("value.");
}

std::vector<tensor::NamedTensor> ValueHead::FreshOptimiserState() const {
  return optimiser_.FreshState("value.");
}

absl::Status ValueHead::RestoreOptimiser(
    const std::vector<tensor::NamedTensor>& state, const std::string& source) {
  return optimiser_.Restore(state, "value.", source);
}

}  // namespace mpo::policy_learner
