// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Attention over a paged key-value cache on the CPU; float32, one row a token,
// plain pointers, no allocation but per-thread scratch. Every function splits
// its rows over `threads` OpenMP threads and gives the same bits for any number
// of threads.
namespace mpo::generation {

// Tokens in one page of the key-value cache.
inline constexpr int kPageTokens = 16;

// Sizes of the attention of one model.
struct AttentionShape {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;

  int q_size() const { return heads * head_dim; }
  int kv_size() const { return kv_heads * head_dim; }
  int qkv_size() const { return q_size() + 2 * kv_size(); }
  // Values are padded to whole vectors.
  int padded_dim() const { return (head_dim + 15) / 16 * 16; }
  // Floats of one page of one layer: for each kv head keys as
  // [head_dim][kPageTokens], then values as [kPageTokens][padded_dim].
  int64_t page_floats() const {
    return int64_t{kv_heads} * kPageTokens * (head_dim + padded_dim());
  }
};

// One token of a forward pass: where it stands and the pages of its sequence.
struct TokenRow {
  int32_t position = 0;
  float* const* pages = nullptr;  // [position / kPageTokens] holds it.
};

// What is done to q and k between projection and rotation; null = nothing.
struct HeadInput {
  const float* bias = nullptr;    // [q + 2 kv], added to q, k and v.
  const float* q_norm = nullptr;  // [head_dim] each: RMS norms of every head of
  const float* k_norm = nullptr;  // q and k, after the bias; both or none.
  float eps = 0;                  // Of the norms.
};

// Applies `input` to rows of q, k, v; rotates q and k by the tables cos and sin
// ([position][head_dim / 2]); stores k and v in the pages at `layer_offset`
// floats.
void RotateAndAppend(const AttentionShape& shape, const TokenRow* tokens,
                     int rows, float* qkv, const HeadInput& input,
                     const float* cos, const float* sin, int64_t layer_offset,
                     int threads);

// Causal attention of every row over its own sequence up to its position.
// `qkv` holds q in its first columns; out is [rows, heads * head_dim].
void AttendRows(const AttentionShape& shape, const TokenRow* tokens, int rows,
                const float* qkv, int64_t layer_offset, float* out,
                int threads);

}  // namespace mpo::generation
