// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace mpo::model {

// The loops behind Attention: float32, plain pointers. Heads of q share
// those of k and v in groups (grouped-query attention). Scores are computed for
// six queries at a time and never for keys behind a tile of sixteen that no
// query of the six may see. Work is divided by sequence and head of k over
// `threads` OpenMP threads, with the same bits for any number of them; memory
// that is short throws std::bad_alloc.
struct AttentionShape {
  int64_t batch = 0, length = 0;
  int64_t heads = 0, kv_heads = 0;  // Of q; of k and v.
  int64_t head_dim = 0;
};

// Whether the loops take it: there are tiles (mpo/tensor/tile.h), head_dim is a
// multiple of 16.
bool HasAttentionLoops(const AttentionShape& shape);

// out [batch, length, heads * head_dim] = softmax(q k^T / sqrt(head_dim)) v
// over each token and those before it. q [batch, heads, length, head_dim], k, v
// [batch, kv_heads, length, head_dim]. `log_sums` [batch, heads, length]: the
// logarithms of the softmax's denominators, for the backward pass.
void AttentionLoop(const AttentionShape& shape, const float* q, const float* k,
                   const float* v, float* out, float* log_sums, int threads);

// Gradients by q, k and v for `g` of out.
void AttentionBackwardLoop(const AttentionShape& shape, const float* q,
                           const float* k, const float* v,
                           const float* log_sums, const float* g, float* dq,
                           float* dk, float* dv, int threads);

}  // namespace mpo::model
