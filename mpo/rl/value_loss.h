// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

struct ValueLoss {
  at::Tensor loss;     // One value a position, differentiable in `values`.
  at::Tensor clipped;  // bool: the bound decided, so no gradient flows.
};

// Clipped value loss as in PPO's reference code: with
// v' = clamp(v, v_old - clip, v_old + clip),
//   loss = max((v - R)^2, (v' - R)^2) / 2
// one value a position. clip = 0: no clipping.
ValueLoss ClippedValueLoss(const at::Tensor& values,
                           const at::Tensor& old_values,
                           const at::Tensor& returns, double clip);

}  // namespace mpo::rl
