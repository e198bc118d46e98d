// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mpo::model {

// softmax(q k^T / sqrt(head_dim) + bias) v (Vaswani et al. 2017, equation 1),
// with its backward pass. Heads of q share those of k and v in groups. q
// [batch, heads, length, head_dim]; k, v [batch, kv_heads, length, head_dim];
// bias [batch, 1, length, length], finite, or undefined: a token sees itself
// and those before it. Returns [batch, length, heads * head_dim]. Our own loops
// where AttendsInLoops, else LibTorch's scaled_dot_product_attention.
// Thread-safe; c10::Error for shapes that do not fit, LibTorch's exceptions
// pass through.
at::Tensor Attention(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const at::Tensor& bias = {});

// Whether that is with our own loops (attention_loops.h), which need no
// repeated heads: no bias, float32 on the CPU, head_dim a multiple of 16, a
// processor with AVX2 and without AVX-512, and a sequence and head of k for
// every thread.
bool AttendsInLoops(const at::Tensor& q, int64_t kv_heads,
                    const at::Tensor& bias);

}  // namespace mpo::model
