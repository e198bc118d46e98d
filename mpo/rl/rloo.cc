// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/rloo.h"

#include <torch/torch.h>

#include "mpo/rl/group_statistics.h"

namespace mpo::rl {

at::Tensor RlooAdvantages(const at::Tensor& rewards, const at::Tensor& scored,
                          const at::Tensor& groups) {
  const GroupStatistics s = ComputeGroupStatistics(rewards, scored, groups);
  const at::Tensor others = (s.sum - s.rewards) / (s.count - 1).clamp_min(1);
  return at::where(s.usable, s.rewards - others, 0.0);
}

}  // namespace mpo::rl
