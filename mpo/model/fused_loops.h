// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace mpo::model {

// The loops behind fused_ops.h: float32, row-major, plain pointers. Every
// function splits its rows over `threads` OpenMP threads and gives the same
// bits for any number of them.

// y = x * scale * weight with scale = 1 / sqrt(mean(x^2) + eps) per row, which
// is kept. x, y [rows, width]; scale [rows].
void RmsNormLoop(const float* x, const float* weight, float eps, int64_t rows,
                 int64_t width, float* y, float* scale, int threads);

// dx of the above: scale * (g w - x * scale^2 * mean(g w x)).
void RmsNormBackwardLoop(const float* x, const float* weight,
                         const float* scale, const float* g, int64_t rows,
                         int64_t width, float* dx, int threads);

// out = silu(gate) * up for rows of [gate | up], each `width` wide.
void SiluMulLoop(const float* gate_up, int64_t rows, int64_t width, float* out,
                 int threads);

// Gradient by [gate | up].
void SiluMulBackwardLoop(const float* gate_up, const float* g, int64_t rows,
                         int64_t width, float* d_gate_up, int threads);

struct HeadsShape {
  int64_t batch = 0, length = 0, heads = 0, head_dim = 0, repeat = 1;
};

// x [batch * length, heads * head_dim] with `stride` floats between rows to
// y [batch, heads * repeat, length, head_dim]; cos and sin [batch * length,
// head_dim / 2], null = no rotation.
void RotateHeadsLoop(const HeadsShape& shape, const float* x, int64_t stride,
                     const float* cos, const float* sin, float* y, int threads);

// Gradient by x, contiguous.
void RotateHeadsBackwardLoop(const HeadsShape& shape, const float* g,
                             const float* cos, const float* sin, float* dx,
                             int threads);

// out = scale * low b for a `low` of few columns: low [rows, rank], b [rank,
// width], out [rows, width], where rows of low and out begin `low_stride` and
// `out_stride` floats apart. rank >= 1. A general product would write zeros
// first and read them again.
void LowRankLoop(const float* low, int64_t low_stride, const float* b,
                 int64_t rows, int64_t rank, int64_t width, float scale,
                 float* out, int64_t out_stride, int threads);

}  // namespace mpo::model
