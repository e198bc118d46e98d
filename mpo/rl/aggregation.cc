// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/aggregation.h"

#include <torch/torch.h>

#include <algorithm>

namespace mpo::rl {

at::Tensor LossWeights(const at::Tensor& mask, LossAggregation aggregation,
                       int64_t constant_length) {
  at::NoGradGuard no_grad;
  const at::Tensor tokens = mask.to(at::kFloat);
  const at::Tensor lengths = tokens.sum(1, /*keepdim=*/true);
  const at::Tensor sequences = (lengths > 0).sum().clamp_min(1);
  switch (aggregation) {
    case LossAggregation::kTokenMean:
      break;
    case LossAggregation::kSequenceMean:
      return tokens / lengths.clamp_min(1) / sequences;
    case LossAggregation::kConstant:
      return tokens / (sequences * std::max<int64_t>(constant_length, 1));
  }
  return tokens / tokens.sum().clamp_min(1);
}

}  // namespace mpo::rl
