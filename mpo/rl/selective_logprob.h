// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

struct TokenStatistics {
  at::Tensor logprobs;  // [N] ln p(target).
  at::Tensor entropy;   // [N] nats; see `entropy_gradient`.
};

struct SelectiveLogprobOptions {
  int64_t chunk_rows = 128;       // Rows of logits that exist at once.
  bool entropy_gradient = false;  // Else the entropy carries no gradient.
};

// Log-probs of `targets` [N] int64 and the entropies under the tempered
// softmax p = softmax(hidden @ head^T / temperature).
//   hidden [N, D] float32; head [V, D]; temperatures [N] > 0.
// At most chunk_rows x V logits exist at a time. The gradient of a token's
// log-prob is a vector of hidden size,
//   d ln p(y) / d h = (head[y] - sum_v p_v head[v]) / temperature,
// and is formed in the forward pass, so nothing is computed twice; where the
// head is trained too, the backward pass computes the chunks again.
TokenStatistics SelectiveLogprob(const at::Tensor& hidden,
                                 const at::Tensor& head,
                                 const at::Tensor& targets,
                                 const at::Tensor& temperatures,
                                 const SelectiveLogprobOptions& options = {});

}  // namespace mpo::rl
