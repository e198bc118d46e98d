// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/grpo.h"

#include <torch/torch.h>

#include "mpo/rl/group_statistics.h"

namespace mpo::rl {

at::Tensor GrpoAdvantages(const at::Tensor& rewards, const at::Tensor& scored,
                          const at::Tensor& groups) {
  const GroupStatistics s = ComputeGroupStatistics(rewards, scored, groups);
  const at::Tensor deviation = s.rewards - s.sum / s.count.clamp_min(1);
  const at::Tensor std = (s.squares / (s.count - 1).clamp_min(1)).sqrt();
  return at::where(s.usable, deviation / (std + 1e-4), 0.0);
}

at::Tensor GrpoBatchScaledAdvantages(const at::Tensor& rewards,
                                     const at::Tensor& scored,
                                     const at::Tensor& groups) {
  at::NoGradGuard no_grad;
  const at::Tensor deviation = DrGrpoAdvantages(rewards, scored, groups);
  const GroupStatistics batch =
      ComputeGroupStatistics(rewards, scored, at::zeros_like(groups));
  const at::Tensor std =
      (batch.squares / (batch.count - 1).clamp_min(1)).sqrt();
  return deviation / (std + 1e-4);
}

at::Tensor DrGrpoAdvantages(const at::Tensor& rewards, const at::Tensor& scored,
                            const at::Tensor& groups) {
  const GroupStatistics s = ComputeGroupStatistics(rewards, scored, groups);
  const at::Tensor mean = s.sum / s.count.clamp_min(1);
  return at::where(s.usable, s.rewards - mean, 0.0);
}

}  // namespace mpo::rl
