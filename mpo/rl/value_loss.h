// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// Clipped value loss as in PPO's reference code: with
// v' = clamp(v, v_old - clip, v_old + clip),
//   loss = max((v - R)^2, (v' - R)^2) / 2
// one value a token. clip = 0: no clipping.
at::Tensor ClippedValueLoss(const at::Tensor& values,
                            const at::Tensor& old_values,
                            const at::Tensor& returns, double clip);

}  // namespace mpo::rl
