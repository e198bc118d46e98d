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

}  // namespace mpo::model
