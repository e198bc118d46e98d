// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/value_loss.h"

#include <torch/torch.h>

namespace mpo::rl {

ValueLoss ClippedValueLoss(const at::Tensor& values,
                           const at::Tensor& old_values,
                           const at::Tensor& returns, double clip) {
  at::Tensor error = (values - returns).square();
  ValueLoss result;
  result.clipped = at::zeros_like(error, at::kBool);
  if (clip > 0) {
    const at::Tensor bounded =
        old_values + (values - old_values).clamp(-clip, clip);
    const at::Tensor bounded_error = (bounded - returns).square();
    result.clipped = (bounded_error > error).detach();
    error = at::maximum(error, bounded_error);
  }
  result.loss = error / 2;
  return result;
}

}  // namespace mpo::rl
