// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/group_statistics.h"

#include <torch/torch.h>

namespace mpo::rl {

GroupStatistics ComputeGroupStatistics(const at::Tensor& rewards,
                                       const at::Tensor& scored,
                                       const at::Tensor& groups) {
  at::NoGradGuard no_grad;
  const auto spread = [&](const at::Tensor& x) {
    return at::zeros_like(x).index_add(0, groups, x).index_select(0, groups);
  };
  GroupStatistics s;
  s.rewards = at::where(scored, rewards, 0.0);
  s.count = spread(scored.to(rewards.scalar_type()));
  s.sum = spread(s.rewards);
  const at::Tensor deviation =
      at::where(scored, s.rewards - s.sum / s.count.clamp_min(1), 0.0);
  s.squares = spread(deviation.square());
  s.usable = scored.logical_and(s.count >= 2);
  return s;
}

}  // namespace mpo::rl
