// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// REINFORCE++ (Hu et al. 2025) before its normalisation over the batch, which
// is Whiten: the discounted sum of the token rewards still to come,
//   A_t = sum_{s >= t} gamma^(s - t) r_s
// `rewards` [B, T] as from TokenRewards; 0 outside the mask. No gradient.
at::Tensor ReinforcePlusPlusAdvantages(const at::Tensor& rewards,
                                       const at::Tensor& mask, double gamma);

}  // namespace mpo::rl
