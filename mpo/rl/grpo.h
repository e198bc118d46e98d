// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// Group-relative advantages (Shao et al. 2024, "DeepSeekMath"), as TRL
// computes them: A_i = (r_i - mean) / (std + 1e-4), std with Bessel's
// correction, over the scored samples of the group.
// [B]; 0 for unscorable samples and where fewer than two were scored.
// Arguments as in ComputeGroupStatistics.
at::Tensor GrpoAdvantages(const at::Tensor& rewards, const at::Tensor& scored,
                          const at::Tensor& groups);

// The same with the deviation of all scored samples of the batch in place of
// the group's (TRL's scale_rewards = "batch"; Hu et al. 2025): a group whose
// rewards hardly differ is not blown up.
at::Tensor GrpoBatchScaledAdvantages(const at::Tensor& rewards,
                                     const at::Tensor& scored,
                                     const at::Tensor& groups);

// Dr. GRPO (Liu et al. 2025, "Understanding R1-Zero-Like Training"):
// A_i = r_i - mean, without the division that favours easy and hard prompts.
at::Tensor DrGrpoAdvantages(const at::Tensor& rewards, const at::Tensor& scored,
                            const at::Tensor& groups);

}  // namespace mpo::rl
