// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/popart.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace mpo::rl {

double PopArt::Deviation() const {
  return std::clamp(std::sqrt(std::max(square - mean * mean, 0.0)), 1e-4, 1e6);
}

PopArt UpdateStatistics(const PopArt& statistics, const at::Tensor& returns,
                        double rate) {
  at::NoGradGuard no_grad;
  if (returns.numel() == 0) return statistics;
  const at::Tensor x = returns.to(at::kDouble);
  PopArt next = statistics;
  ++next.updates;
  const double weight = std::max(rate, 1 / static_cast<double>(next.updates));
  next.mean += weight * (x.mean().item<double>() - next.mean);
  next.square += weight * (x.square().mean().item<double>() - next.square);
  return next;
}

void PreserveOutputs(at::Tensor weight, at::Tensor bias, const PopArt& from,
                     const PopArt& to) {
  at::NoGradGuard no_grad;
  const double scale = from.Deviation() / to.Deviation();
  weight.mul_(scale);
  bias.mul_(scale).add_((from.mean - to.mean) / to.Deviation());
}

at::Tensor Denormalise(const at::Tensor& predictions,
                       const PopArt& statistics) {
  return predictions * statistics.Deviation() + statistics.mean;
}

at::Tensor NormaliseValues(const at::Tensor& values, const PopArt& statistics) {
  return (values - statistics.mean) / statistics.Deviation();
}

}  // namespace mpo::rl
