// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// Statistics of the scored members of each sample's group, one entry a sample
// (members of one group share them). Unscorable samples are not counted, and
// what stands in their reward (even NaN) is never read.
struct GroupStatistics {
  at::Tensor rewards;  // [B], 0 where unscorable.
  at::Tensor count;    // Scored members, as float.
  at::Tensor sum;      // Of their rewards.
  at::Tensor squares;  // Sum of squared deviations from the group's mean.
  at::Tensor usable;   // bool: scored, in a group of at least two scored.
};

// `rewards` [B] float, `scored` [B] bool, `groups` [B] int64: any ids in
// [0, B). No gradient.
GroupStatistics ComputeGroupStatistics(const at::Tensor& rewards,
                                       const at::Tensor& scored,
                                       const at::Tensor& groups);

}  // namespace mpo::rl
