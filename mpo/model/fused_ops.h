// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mpo::model {

// The differentiable pieces of a decoder layer between and around its matrix
// products, each with its own backward pass. In float32 on the CPU they are
// single loops over OpenMP threads (at::get_num_threads()), which sum in a
// fixed order: the same bits for the same number of threads. Elsewhere the same
// formulas in LibTorch's operations. Pure functions, thread-safe; LibTorch's
// exceptions pass through.

// x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and
// Sennrich 2019, equation 4). x [..., n], weight [n].
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps);

// silu(gate) * up of rows [gate | up] (SwiGLU, Shazeer 2020, equation 5).
// gate_up [..., 2 n]; returns [..., n].
at::Tensor SiluMul(const at::Tensor& gate_up);

// A low-rank update of some rows of a linear layer's weight (LoRA, Hu et al.
// 2021, equation 3).
struct LinearAdapter {
  at::Tensor a;       // [rank, in]
  at::Tensor b;       // [out of the part, rank]
  int64_t begin = 0;  // First output of the part.
};

// A weight matrix for products of many rows (tensor::Packed); undefined = as it
// is.
struct PackedWeight {
  at::Tensor transposed;  // For x W^T.
  at::Tensor plain;       // For gradients by x, g W.
};

// x W^T + bias, and scale * (x a^T) b^T added to each adapter's outputs.
// x [..., in]; weight [out, in]; bias [out] or undefined; returns [..., out].
// Adapters may be float32 beside half-precision weights. `packed` is of a
// weight that is not trained.
at::Tensor AdaptedLinear(const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias,
                         const std::vector<LinearAdapter>& adapters,
                         double scale, const PackedWeight& packed = {});

// Cosines and sines of the rotary embedding (Su et al. 2021, equation 34, in
// the layout of Hugging Face: dimension i turns with i + head_dim / 2).
struct Rotary {
  at::Tensor cos;  // [batch, length, head_dim / 2]
  at::Tensor sin;
};

// Splits rows into heads, rotates each (rotary null = not at all) and repeats
// it `repeat` times in a row, as grouped-query attention wants.
// x [batch, length, heads * head_dim]; returns
// [batch, heads * repeat, length, head_dim], contiguous.
at::Tensor RotateHeads(const at::Tensor& x, int64_t head_dim, int64_t repeat,
                       const Rotary* rotary);

}  // namespace mpo::model
