// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/moments.h"

#include <torch/torch.h>

#include <cmath>

namespace mpo::rl {

double Moments::Deviation() const {
  if (count < 2) return 0;
  return std::sqrt(squares / static_cast<double>(count - 1));
}

Moments Merge(const Moments& moments, const at::Tensor& values) {
  at::NoGradGuard no_grad;
  const at::Tensor x = values.to(at::kDouble);
  const int64_t added = x.numel();
  if (added == 0) return moments;
  const double mean = x.mean().item<double>();
  const double squares = (x - mean).square().sum().item<double>();
  const auto before = static_cast<double>(moments.count);
  const auto more = static_cast<double>(added);
  const double shift = mean - moments.mean;
  Moments result;
  result.count = moments.count + added;
  result.mean = moments.mean + shift * more / (before + more);
  result.squares = moments.squares + squares +
                   shift * shift * before * more / (before + more);
  return result;
}

at::Tensor Normalise(const at::Tensor& x, const Moments& moments) {
  at::NoGradGuard no_grad;
  return (x - moments.mean) / (moments.Deviation() + 1e-8);
}

}  // namespace mpo::rl
