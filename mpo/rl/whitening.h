// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

enum class Whitening { kNone, kBatch, kGroup };

// Where the epsilon that keeps the divisor from 0 is added.
enum class EpsilonIn {
  kDeviation,  // (x - mean) / (std + epsilon)
  kVariance,   // (x - mean) / sqrt(var + epsilon): TRL's masked_whiten, 1e-8.
};

// (x - mean) / (std + epsilon) over the entries of `mask` (same shape), std
// with Bessel's correction; 0 outside the mask. One entry alone becomes 0.
at::Tensor Whiten(const at::Tensor& x, const at::Tensor& mask, double epsilon,
                  EpsilonIn in = EpsilonIn::kDeviation);

// The same within each group of rows: `groups` [B] int64 in [0, B).
at::Tensor WhitenGroups(const at::Tensor& x, const at::Tensor& mask,
                        const at::Tensor& groups, double epsilon,
                        EpsilonIn in = EpsilonIn::kDeviation);

}  // namespace mpo::rl
