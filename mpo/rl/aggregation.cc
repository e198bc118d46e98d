// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/aggregation.h"

#include <torch/torch.h>

#include <algorithm>
#include <vector>

namespace mpo::rl {
namespace {

at::Tensor BlockWeights(const at::Tensor& mask, LossAggregation aggregation,
                        int64_t constant_length) {
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

}  // namespace

at::Tensor LossWeights(const at::Tensor& mask, LossAggregation aggregation,
                       int64_t constant_length, int64_t block) {
  at::NoGradGuard no_grad;
  const int64_t rows = mask.size(0);
  if (block <= 0 || block >= rows) {
    return BlockWeights(mask, aggregation, constant_length);
  }
  std::vector<at::Tensor> blocks;
  int64_t counted = 0;
  for (int64_t begin = 0; begin < rows; begin += block) {
    const at::Tensor part =
        mask.narrow(0, begin, std::min(block, rows - begin));
    counted += part.any().item<bool>() ? 1 : 0;
    blocks.push_back(BlockWeights(part, aggregation, constant_length));
  }
  return at::cat(blocks) / static_cast<double>(std::max<int64_t>(counted, 1));
}

}  // namespace mpo::rl
