// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/value_loss.h"

#include <torch/torch.h>

namespace mpo::rl {

at::Tensor ClippedValueLoss(const at::Tensor& values,
                            const at::Tensor& old_values,
                            const at::Tensor& returns, double clip) {
  at::Tensor error = (values - returns).square();
  if (clip > 0) {
    const at::Tensor bounded =
        old_values + (values - old_values).clamp(-clip, clip);
    error = at::maximum(error, (bounded - returns).square());
  }
  return error / 2;
}

}  // namespace mpo::rl
