// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

enum class LossAggregation {
  kTokenMean,     // Sum over all tokens / number of tokens.
  kSequenceMean,  // Mean over sequences of each sequence's token mean.
  kConstant,      // Sum / (sequences x constant length): Dr. GRPO.
};

// Weights [B, T] with which a sum over tokens becomes the aggregated loss of a
// whole minibatch: loss = sum(weights * token_loss). Any split of the rows
// into micro-batches thus adds up to the same gradient. 0 outside `mask`; rows
// without tokens do not count as sequences. `constant_length` >= 1 is read by
// kConstant only.
//
// `block` > 0: the aggregation is taken within each `block` consecutive rows,
// and the mean of the blocks that have tokens is the loss. That is what
// gradient accumulation over micro-batches of `block` rows gives where each is
// averaged by itself, as in TRL 0.17's PPO. 0 = all rows are one block.
at::Tensor LossWeights(const at::Tensor& mask, LossAggregation aggregation,
                       int64_t constant_length, int64_t block = 0);

}  // namespace mpo::rl
