// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/optimiser.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/match.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/torch_errors.h"
#include "services/policy_learner/policy_model.h"

namespace mpo::policy_learner {

using tensor::NamedTensor;
using torch::optim::AdamWOptions;
using torch::optim::AdamWParamState;

double LearningRateFactor(const TrainerOptions& options, int64_t step) {
  double factor = 1;
  if (options.warmup_steps > 0) {
    factor = std::min(1.0, static_cast<double>(step) /
                               static_cast<double>(options.warmup_steps));
  }
  const double done = std::clamp(
      static_cast<double>(step - 1) /
          static_cast<double>(std::max<int64_t>(options.total_steps, 1)),
      0.0, 1.0);
  switch (options.lr_schedule) {
    case LrSchedule::kConstant:
      break;
    case LrSchedule::kLinear:
      return factor * (1 - done);
    case LrSchedule::kCosine:
      return factor * (1 + std::cos(std::numbers::pi * done)) / 2;
  }
  return factor;
}

Optimiser::Optimiser(std::vector<NamedTensor> leaves,
                     const TrainerOptions& options, double weight_decay)
    : leaves_(std::move(leaves)) {
  std::vector<at::Tensor> parameters;
  for (const NamedTensor& leaf : leaves_) parameters.push_back(leaf.tensor);
  adamw_ = std::make_unique<torch::optim::AdamW>(
      parameters, AdamWOptions(options.learning_rate)
                      .betas({options.adam_beta1, options.adam_beta2})
                      .eps(options.adam_epsilon)
                      .weight_decay(weight_decay));
}

Optimiser::~Optimiser() = default;

void Optimiser::ZeroGrad() { adamw_->zero_grad(); }

double Optimiser::ClipGradients(double max_norm) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const NamedTensor& leaf : leaves_) {
    const at::Tensor& grad = leaf.tensor.grad();
    if (grad.defined()) norms.push_back(grad.norm());
  }
  if (norms.empty()) return 0;
  const double norm = at::stack(norms).norm().item<double>();
  if (max_norm > 0 && std::isfinite(norm) && norm > max_norm) {
    for (const NamedTensor& leaf : leaves_) {
      at::Tensor grad = leaf.tensor.grad();
      if (grad.defined()) grad.mul_(max_norm / norm);
    }
  }
  return norm;
}

void Optimiser::Step(double learning_rate) {
  static_cast<AdamWOptions&>(adamw_->param_groups()[0].options())
      .lr(learning_rate);
  adamw_->step();
}

std::vector<NamedTensor> Optimiser::State(const std::string& prefix) const {
  std::vector<NamedTensor> state;
  int64_t steps = 0;
  for (const NamedTensor& leaf : leaves_) {
    const auto it = adamw_->state().find(leaf.tensor.unsafeGetTensorImpl());
    at::Tensor average, square;
    if (it == adamw_->state().end()) {
      average = torch::zeros_like(leaf.tensor);
      square = torch::zeros_like(leaf.tensor);
    } else {
      const auto& of_leaf = static_cast<const AdamWParamState&>(*it->second);
      average = of_leaf.exp_avg();
      square = of_leaf.exp_avg_sq();
      steps = of_leaf.step();
    }
    state.push_back({prefix + leaf.name + ".exp_avg", average.detach()});
    state.push_back({prefix + leaf.name + ".exp_avg_sq", square.detach()});
  }
  state.push_back({prefix + "steps", torch::tensor(steps, torch::kLong)});
  return state;
}

absl::Status Optimiser::Restore(const std::vector<NamedTensor>& state,
                                const std::string& prefix,
                                const std::string& source) {
  std::vector<NamedTensor> own, fresh;
  for (const NamedTensor& entry : state) {
    if (absl::StartsWith(entry.name, prefix)) own.push_back(entry);
  }
  for (const NamedTensor& leaf : leaves_) {
    for (const char* part : {".exp_avg", ".exp_avg_sq"}) {
      fresh.push_back(
          {prefix + leaf.name + part, torch::zeros_like(leaf.tensor).detach()});
    }
  }
  const at::Tensor steps = torch::zeros({}, torch::kLong);
  fresh.push_back({prefix + "steps", steps});
  MPO_RETURN_IF_ERROR(CopyByName(own, fresh, source));
  return tensor::CatchTorch("restore optimiser", [&] {
    adamw_->state().clear();
    if (steps.item<int64_t>() == 0) return;
    for (size_t i = 0; i < leaves_.size(); ++i) {
      auto of_leaf = std::make_unique<AdamWParamState>();
      of_leaf->step(steps.item<int64_t>());
      of_leaf->exp_avg(fresh[2 * i].tensor);
      of_leaf->exp_avg_sq(fresh[2 * i + 1].tensor);
      adamw_->state()[leaves_[i].tensor.unsafeGetTensorImpl()] =
          std::move(of_leaf);
    }
  });
}

}  // namespace mpo::policy_learner
