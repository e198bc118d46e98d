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
                     const TrainerOptions& options, double weight_decay,
                     collective::ProcessGroup* group)
    : leaves_(std::move(leaves)), parallel_(group) {
  if (group != nullptr) shard_.emplace(leaves_, *group);
  std::vector<at::Tensor> parameters;
  for (const NamedTensor& leaf : shard_ ? shard_->own() : leaves_) {
    parameters.push_back(leaf.tensor);
  }
  adamw_ = std::make_unique<torch::optim::AdamW>(
      parameters, AdamWOptions(options.learning_rate)
                      .betas({options.adam_beta1, options.adam_beta2})
                      .eps(options.adam_epsilon)
                      .weight_decay(weight_decay));
}

Optimiser::~Optimiser() = default;

void Optimiser::ZeroGrad() {
  if (!shard_) return adamw_->zero_grad();
  // The gradients of the parts are views of those of the leaves.
  for (const NamedTensor& part : shard_->own()) {
    at::Tensor(part.tensor).mutable_grad().reset();
  }
  for (const NamedTensor& leaf : leaves_) {
    at::Tensor(leaf.tensor).mutable_grad().reset();
  }
}

void Optimiser::SumGradients(const std::vector<double*>& numbers) const {
  parallel_.SumGradients(leaves_, numbers, "gradients");
}

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
  if (shard_) shard_->TakeGradients();
  adamw_->step();
  if (shard_) shard_->GatherLeaves();
}

std::vector<NamedTensor> Optimiser::State(const std::string& prefix) const {
  if (shard_) return SharedState(prefix);
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

std::vector<NamedTensor> Optimiser::SharedState(
    const std::string& prefix) const {
  std::vector<at::Tensor> averages, squares;
  double steps = 0;
  for (const NamedTensor& part : shard_->own()) {
    const auto it = adamw_->state().find(part.tensor.unsafeGetTensorImpl());
    if (it == adamw_->state().end()) {
      averages.push_back(torch::zeros_like(part.tensor));
      squares.push_back(torch::zeros_like(part.tensor));
      continue;
    }
    const auto& of_part = static_cast<const AdamWParamState&>(*it->second);
    averages.push_back(of_part.exp_avg());
    squares.push_back(of_part.exp_avg_sq());
    steps = static_cast<double>(of_part.step());
  }
  averages = shard_->Gather(averages, prefix + "exp_avg");
  squares = shard_->Gather(squares, prefix + "exp_avg_sq");
  // A rank without a part knows of no step.
  double ranks_with = steps > 0 ? 1 : 0;
  parallel_.Sum({&steps, &ranks_with}, prefix + "steps");
  if (averages.empty() && !leaves_.empty()) return {};
  if (ranks_with > 0) steps /= ranks_with;
  std::vector<NamedTensor> state = FreshState(prefix);
  for (size_t i = 0; i < leaves_.size(); ++i) {
    state[2 * i].tensor = averages[i];
    state[2 * i + 1].tensor = squares[i];
  }
  state.back().tensor.fill_(static_cast<int64_t>(steps));
  return state;
}

std::vector<NamedTensor> Optimiser::FreshState(
    const std::string& prefix) const {
  std::vector<NamedTensor> fresh;
  for (const NamedTensor& leaf : leaves_) {
    for (const char* part : {".exp_avg", ".exp_avg_sq"}) {
      fresh.push_back(
          {prefix + leaf.name + part, torch::zeros_like(leaf.tensor).detach()});
    }
  }
  fresh.push_back({prefix + "steps", torch::zeros({}, torch::kLong)});
  return fresh;
}

absl::Status Optimiser::Restore(const std::vector<NamedTensor>& state,
                                const std::string& prefix,
                                const std::string& source) {
  std::vector<NamedTensor> own;
  for (const NamedTensor& entry : state) {
    if (absl::StartsWith(entry.name, prefix)) own.push_back(entry);
  }
  const std::vector<NamedTensor> fresh = FreshState(prefix);
  MPO_RETURN_IF_ERROR(CopyByName(own, fresh, source));
  const int64_t steps = fresh.back().tensor.item<int64_t>();
  return tensor::CatchTorch("restore optimiser", [&] {
    adamw_->state().clear();
    if (steps == 0) return;
    const std::vector<NamedTensor>& held = shard_ ? shard_->own() : leaves_;
    for (size_t i = 0; i < held.size(); ++i) {
      const size_t leaf = shard_ ? shard_->LeafOf(i) : i;
      const at::Tensor& average = fresh[2 * leaf].tensor;
      const at::Tensor& square = fresh[2 * leaf + 1].tensor;
      auto state_of = std::make_unique<AdamWParamState>();
      state_of->step(steps);
      state_of->exp_avg(shard_ ? shard_->PartOf(i, average) : average);
      state_of->exp_avg_sq(shard_ ? shard_->PartOf(i, square) : square);
      adamw_->state()[held[i].tensor.unsafeGetTensorImpl()] =
          std::move(state_of);
    }
  });
}

}  // namespace mpo::policy_learner
