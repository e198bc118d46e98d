// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

struct TokenStatistics {
  at::Tensor logprobs;  // [N] ln p(target).
  at::Tensor entropy;   // [N] nats; see `entropy_gradient`.
};

struct SelectiveLogprobOptions {
  // Most bytes of logits that exist at once, >= 1 row of them.
  int64_t logits_bytes = int64_t{128} << 20;
  bool entropy_gradient = false;  // Else the entropy carries no gradient.
};

// Log-probs of `targets` [N] int64 and the entropies under the tempered
// softmax p = softmax(hidden @ head^T / temperature).
//   hidden [N, D] and head [V, D] of one dtype; temperatures [N] float32 > 0.
// The results are float32, computed from the logits in float32: on a GPU by a
// kernel (softmax_rows_kernel.h), on the CPU in float32 by fused loops.
// The rows are worked on in chunks whose logits take at most logits_bytes. The
// gradient of a token's log-prob is a vector of hidden size,
//   d ln p(y) / d h = (head[y] - sum_v p_v head[v]) / temperature,
// and is formed in the forward pass. Where the head is trained too, its
// gradient reads the softmax rows again: those of a single chunk are kept
// (where the entropy carries no gradient), else they are computed again.
TokenStatistics SelectiveLogprob(const at::Tensor& hidden,
                                 const at::Tensor& head,
                                 const at::Tensor& targets,
                                 const at::Tensor& temperatures,
                                 const SelectiveLogprobOptions& options = {});

}  // namespace mpo::rl
