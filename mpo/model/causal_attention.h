// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::model {

// softmax(q k^T / sqrt(head_dim)) v, where a token sees itself and those before
// it (Vaswani et al. 2017, equation 1), with its backward pass. Heads of q
// share those of k and v in groups. q [batch, heads, length, head_dim]; k, v
// [batch, kv_heads, length, head_dim]; returns [batch, length, heads *
// head_dim], contiguous. In float32 on the CPU our own loops where the build
// has them (attention_loops.h), else LibTorch's scaled_dot_product_attention.
// Thread-safe; LibTorch's exceptions pass through.
at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v);

}  // namespace mpo::model
