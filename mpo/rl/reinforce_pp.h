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

// REINFORCE++ with baseline (Hu et al. 2025): the scores [B] that stand in
// place of the rewards above, r_i - mean of the scored samples of the group.
// The division by the group's deviation that GRPO makes is left to the
// whitening over the batch. 0 for unscorable samples and where fewer than two
// were scored. Arguments as in ComputeGroupStatistics.
at::Tensor ReinforcePlusPlusScores(const at::Tensor& rewards,
                                   const at::Tensor& scored,
                                   const at::Tensor& groups);

}  // namespace mpo::rl
