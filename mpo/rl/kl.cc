// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/kl.h"

#include <torch/torch.h>

namespace mpo::rl {

at::Tensor EstimateKl(const at::Tensor& logprobs,
                      const at::Tensor& reference_logprobs,
                      KlEstimator estimator, double max_ratio) {
  const at::Tensor d = reference_logprobs - logprobs;
  switch (estimator) {
    case KlEstimator::kK1:
      return -d;
    case KlEstimator::kK2:
      return d.square() / 2;
    case KlEstimator::kK3:
      break;
  }
  at::Tensor ratio = d.exp();
  if (max_ratio > 0) ratio = ratio.clamp_max(max_ratio);
  return ratio - 1 - d;
}

at::Tensor RatioWeightedKl(const at::Tensor& kl, const at::Tensor& log_ratio) {
  return kl * log_ratio.exp();
}

}  // namespace mpo::rl
