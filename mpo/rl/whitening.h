// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

enum class Whitening { kNone, kBatch, kGroup };

// (x - mean) / (std + epsilon) over the entries of `mask` (same shape), std
// with Bessel's correction; 0 outside the mask. One entry alone becomes 0.
at::Tensor Whiten(const at::Tensor& x, const at::Tensor& mask, double epsilon);

// The same within each group of rows: `groups` [B] int64 in [0, B).
at::Tensor WhitenGroups(const at::Tensor& x, const at::Tensor& mask,
                        const at::Tensor& groups, double epsilon);

}  // namespace mpo::rl
