// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// REINFORCE leave-one-out (Ahmadian et al. 2024, "Back to Basics"): with n
// scored samples in the group,
//   A_i = r_i - (sum_j r_j - r_i) / (n - 1)
// [B]; 0 for unscorable samples and where fewer than two were scored.
// Arguments as in ComputeGroupStatistics.
at::Tensor RlooAdvantages(const at::Tensor& rewards, const at::Tensor& scored,
                          const at::Tensor& groups);

}  // namespace mpo::rl
