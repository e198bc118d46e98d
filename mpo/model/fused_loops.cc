// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/fused_loops.h"

#include <algorithm>
#include <cmath>

#include "mpo/tensor/fast_exp.h"

namespace mpo::model {
namespace {

using tensor::FastExp;

// Below this many floats threads cost more than they save.
constexpr int64_t kGrain = 16384;

template <typename Body>
void ForRows(int64_t rows, int64_t width, int threads, Body body) {
  const int64_t useful = std::max<int64_t>(1, rows * width / kGrain);
  const int used = static_cast<int>(std::min<int64_t>(threads, useful));
#pragma omp parallel for schedule(static) num_threads(used)
  for (int64_t row = 0; row < rows; ++row) body(row);
}

// Rows that LowRankLoop takes for every load of b, and rows of b.
constexpr int kRows = 4;
constexpr int kDepth = 4;

// out[i][j] (+)= sum over k of factors[i][k] * b[k][j] for j in [begin, end).
// Where nothing is added `out` is not read: its pages may be fresh ones.
template <int kCount, bool kAdd>
void AddProducts(const float (&factors)[kRows][kDepth],
                 const float* const (&b)[kDepth], int64_t begin, int64_t end,
                 float* out, int64_t stride) {
#pragma omp simd
  for (int64_t j = begin; j < end; ++j) {
    const float b0 = b[0][j], b1 = b[1][j], b2 = b[2][j], b3 = b[3][j];
    for (int i = 0; i < kCount; ++i) {
      const float* f = factors[i];
      float sum = f[0] * b0 + f[1] * b1 + f[2] * b2 + f[3] * b3;
      if constexpr (kAdd) sum += out[i * stride + j];
      out[i * stride + j] = sum;
    }
  }
}

// LowRankLoop of kCount rows. Columns by the block, so that those of `out` stay
// in the first cache.
template <int kCount>
void LowRankRows(const float* low, int64_t low_stride, const float* b,
                 int64_t rank, int64_t width, float scale, float* out,
                 int64_t out_stride) {
  constexpr int64_t kColumns = 256;
  for (int64_t begin = 0; begin < width; begin += kColumns) {
    const int64_t end = std::min(width, begin + kColumns);
    for (int64_t r = 0; r < rank; r += kDepth) {
      float factors[kRows][kDepth] = {};  // 0 beyond the rank.
      const float* from[kDepth];
      for (int k = 0; k < kDepth; ++k) {
        from[k] = b + std::min(r + k, rank - 1) * width;
        for (int i = 0; i < kCount && r + k < rank; ++i)
          factors[i][k] = scale * low[i * low_stride + r + k];
      }
      if (r == 0) {
        AddProducts<kCount, false>(factors, from, begin, end, out, out_stride);
      } else {
        AddProducts<kCount, true>(factors, from, begin, end, out, out_stride);
      }
    }
  }
}

}  // namespace

void RmsNormLoop(const float* x, const float* weight, float eps, int64_t rows,
                 int64_t width, float* y, float* scale, int threads) {
  ForRows(rows, width, threads, [=](int64_t row) {
    const float* in = x + row * width;
    float* out = y + row * width;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) sum += in[i] * in[i];
    const float s = 1.0F / std::sqrt(sum / static_cast<float>(width) + eps);
    scale[row] = s;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] = in[i] * s * weight[i];
  });
}

void RmsNormBackwardLoop(const float* x, const float* weight,
                         const float* scale, const float* g, int64_t rows,
                         int64_t width, float* dx, int threads) {
  ForRows(rows, width, threads, [=](int64_t row) {
    const float* in = x + row * width;
    const float* by = g + row * width;
    float* out = dx + row * width;
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < width; ++i) dot += by[i] * weight[i] * in[i];
    const float s = scale[row];
    const float back = dot / static_cast<float>(width) * s * s;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i)
      out[i] = s * (by[i] * weight[i] - in[i] * back);
  });
}

void SiluMulLoop(const float* gate_up, int64_t rows, int64_t width, float* out,
                 int threads) {
  ForRows(rows, width, threads, [=](int64_t row) {
    const float* gate = gate_up + row * 2 * width;
    const float* up = gate + width;
    float* y = out + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i)
      y[i] = gate[i] / (1.0F + FastExp(-gate[i])) * up[i];
  });
}

void SiluMulBackwardLoop(const float* gate_up, const float* g, int64_t rows,
                         int64_t width, float* d_gate_up, int threads) {
  ForRows(rows, width, threads, [=](int64_t row) {
    const float* gate = gate_up + row * 2 * width;
    const float* up = gate + width;
    const float* by = g + row * width;
    float* d_gate = d_gate_up + row * 2 * width;
    float* d_up = d_gate + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float sigmoid = 1.0F / (1.0F + FastExp(-gate[i]));
      const float silu = gate[i] * sigmoid;
      d_up[i] = by[i] * silu;
      d_gate[i] = by[i] * up[i] * (sigmoid + silu * (1.0F - sigmoid));
    }
  });
}

void RotateHeadsLoop(const HeadsShape& shape, const float* x, int64_t stride,
                     const float* cos, const float* sin, float* y,
                     int threads) {
  const HeadsShape s = shape;
  const int64_t half = s.head_dim / 2;
  ForRows(s.batch * s.length, s.heads * s.head_dim, threads, [=](int64_t row) {
    const int64_t b = row / s.length;
    const int64_t t = row % s.length;
    for (int64_t h = 0; h < s.heads; ++h) {
      const float* in = x + row * stride + h * s.head_dim;
      for (int64_t r = 0; r < s.repeat; ++r) {
        const int64_t head = (b * s.heads + h) * s.repeat + r;
        float* out = y + (head * s.length + t) * s.head_dim;
        if (cos == nullptr) {
          for (int64_t i = 0; i < s.head_dim; ++i) out[i] = in[i];
          continue;
        }
        const float* c = cos + row * half;
        const float* n = sin + row * half;
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          out[i] = in[i] * c[i] - in[i + half] * n[i];
          out[i + half] = in[i + half] * c[i] + in[i] * n[i];
        }
      }
    }
  });
}

void RotateHeadsBackwardLoop(const HeadsShape& shape, const float* g,
                             const float* cos, const float* sin, float* dx,
                             int threads) {
  const HeadsShape s = shape;
  const int64_t half = s.head_dim / 2;
  ForRows(s.batch * s.length, s.heads * s.head_dim, threads, [=](int64_t row) {
    const int64_t b = row / s.length;
    const int64_t t = row % s.length;
    for (int64_t h = 0; h < s.heads; ++h) {
      float* out = dx + (row * s.heads + h) * s.head_dim;
      for (int64_t r = 0; r < s.repeat; ++r) {
        const int64_t head = (b * s.heads + h) * s.repeat + r;
        const float* by = g + (head * s.length + t) * s.head_dim;
        if (r == 0) {
          for (int64_t i = 0; i < s.head_dim; ++i) out[i] = by[i];
        } else {
          for (int64_t i = 0; i < s.head_dim; ++i) out[i] += by[i];
        }
      }
      if (cos == nullptr) continue;
      const float* c = cos + row * half;
      const float* n = sin + row * half;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        const float low = out[i];
        const float high = out[i + half];
        out[i] = low * c[i] + high * n[i];
        out[i + half] = high * c[i] - low * n[i];
      }
    }
  });
}

void LowRankLoop(const float* low, int64_t low_stride, const float* b,
                 int64_t rows, int64_t rank, int64_t width, float scale,
                 float* out, int64_t out_stride, int threads) {
  const int64_t groups = (rows + kRows - 1) / kRows;
  ForRows(groups, kRows * width, threads, [=](int64_t group) {
    const int64_t begin = group * kRows;
    const int64_t end = std::min(rows, begin + kRows);
    if (end - begin == kRows) {
      LowRankRows<kRows>(low + begin * low_stride, low_stride, b, rank, width,
                         scale, out + begin * out_stride, out_stride);
      return;
    }
    for (int64_t row = begin; row < end; ++row) {
      LowRankRows<1>(low + row * low_stride, low_stride, b, rank, width, scale,
                     out + row * out_stride, out_stride);
    }
  });
}

}  // namespace mpo::model
