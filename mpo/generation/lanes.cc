// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/lanes.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mpo/generation/vector16.h"
#include "mpo/tensor/fast_exp.h"

namespace mpo::generation {
namespace {

static_assert(kLanesPerVector == kLanes);

int ThisSlot() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

#ifdef __AVX512F__
using Register = Vector;

// a0 b0 a1 b1 ... of the lower and of the upper halves.
inline Register ZipLow(Register a, Register b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                 6, 22, 7, 23);
}

inline Register ZipHigh(Register a, Register b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                 29, 14, 30, 15, 31);
}
#else
using Register = Half;

inline Register ZipLow(Register a, Register b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}

inline Register ZipHigh(Register a, Register b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#endif

inline Register LoadRegister(const float* p) {
  Register r;
  std::memcpy(&r, p, sizeof(r));
  return r;
}

// Transposes a square of registers: log2 of their number of floats perfect
// shuffles of all values. Unrolled, here and below, or the array would lie in
// memory.
template <int kSize>
inline void TurnSquare(Register (&rows)[kSize]) {
  static_assert(sizeof(Register) == kSize * sizeof(float));
#pragma GCC unroll 4
  for (int round = 1; round < kSize; round *= 2) {
    Register zipped[kSize];
#pragma GCC unroll 16
    for (int i = 0; i < kSize / 2; ++i) {
      zipped[2 * i] = ZipLow(rows[i], rows[i + kSize / 2]);
      zipped[2 * i + 1] = ZipHigh(rows[i], rows[i + kSize / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) rows[i] = zipped[i];
  }
}

// to[j * to_stride] = column j of the 16 x 16 floats whose row i is row(i).
template <typename Row>
inline void Turn(Row row, float* to, int64_t to_stride) {
  constexpr int kSize = sizeof(Register) / sizeof(float);
  for (int left = 0; left < kLanes; left += kSize) {
    for (int top = 0; top < kLanes; top += kSize) {
      Register square[kSize];
#pragma GCC unroll 16
      for (int i = 0; i < kSize; ++i)
        square[i] = LoadRegister(row(top + i) + left);
      TurnSquare<kSize>(square);
      float* out = to + left * to_stride + top;
#pragma GCC unroll 16
      for (int j = 0; j < kSize; ++j, out += to_stride)
        std::memcpy(out, &square[j], sizeof(Register));
    }
  }
}

// `row(i)` is where row i begins.
template <typename Row>
void ToLanes(Row row, int count, int width, Lanes lanes, float* out) {
  const int64_t panel = lanes.panel;
  for (int begin = 0; begin < lanes.count; begin += kLanes) {
    const int rows = std::clamp(count - begin, 0, kLanes);
    float* to = out + lanes.Offset(begin, width);
    int d = 0;
    for (; rows == kLanes && d + kLanes <= width; d += kLanes) {
      Turn([&](int i) { return row(begin + i) + d; }, to, panel);
      to += kLanes * panel;
    }
    for (; d < width; ++d, to += panel) {
      for (int i = 0; i < rows; ++i) to[i] = row(begin + i)[d];
      std::fill(to + rows, to + kLanes, 0.0F);
    }
  }
}

}  // namespace

void RunTasks(int count, int threads,
              absl::FunctionRef<void(int index, int slot)> task) {
  if (count == 1 || threads == 1) {
    for (int i = 0; i < count; ++i) task(i, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int i = 0; i < count; ++i) task(i, ThisSlot());
}

void RowsToLanes(const float* const* rows, int count, int width, Lanes lanes,
                 float* out) {
  ToLanes([&](int i) { return rows[i]; }, count, width, lanes, out);
}

void RowsToLanes(const float* rows, int count, int width, Lanes lanes,
                 float* out) {
  ToLanes([&](int i) { return rows + int64_t{i} * width; }, count, width, lanes,
          out);
}

void LanesToRows(const float* in, Lanes lanes, int count, int width,
                 float* rows, int64_t stride) {
  const int64_t panel = lanes.panel;
  for (int begin = 0; begin < count; begin += kLanes) {
    const int here = std::min(kLanes, count - begin);
    float* to = rows + begin * stride;
    const float* from = in + lanes.Offset(begin, width);
    auto row = [&](int i) { return from + i * panel; };
    int d = 0;
    for (; d + kLanes <= width; d += kLanes, from += kLanes * panel) {
      if (here == kLanes) {
        Turn(row, to + d, stride);
        continue;
      }
      float square[kLanes * kLanes];
      Turn(row, square, kLanes);
      for (int i = 0; i < here; ++i)
        std::memcpy(to + i * stride + d, square + i * kLanes,
                    kLanes * sizeof(float));
    }
    for (; d < width; ++d, from += panel) {
      for (int i = 0; i < here; ++i) to[i * stride + d] = from[i];
    }
  }
}

void RmsNormLanes(const float* x, const float* weight, float eps, Lanes lanes,
                  int width, float* out, int threads) {
  const int64_t panel = lanes.panel;
  const int vectors = lanes.count / kLanes;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int v = 0; v < vectors; ++v) {
    const int64_t begin = lanes.Offset(v * kLanes, width);
    const float* in = x + begin;
    Vector sums[4] = {};
    for (int d = 0; d < width; d += 4) {
      for (int k = 0; k < std::min(4, width - d); ++k) {
        const Vector value = Load(in + (d + k) * panel);
        sums[k] += value * value;
      }
    }
    float scales[kLanes];
    Store(scales, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (float& one : scales)
      one = 1.0F / std::sqrt(one / static_cast<float>(width) + eps);
    const Vector scale = Load(scales);
    float* to = out + begin;
    for (int d = 0; d < width; ++d)
      Store(to + d * panel, Load(in + d * panel) * scale * weight[d]);
  }
}

void SiluMulLanes(const float* gate_up, Lanes lanes, int width, float* out,
                  int threads) {
  constexpr int kRows = 64;  // Of a panel, that one task takes.
  const int panels = lanes.count / lanes.panel;
#pragma omp parallel for collapse(2) num_threads(threads) \
    schedule(static) if (threads > 1)
  for (int p = 0; p < panels; ++p) {
    for (int d = 0; d < width; d += kRows) {
      const int64_t panel = lanes.panel;
      const float* gates = gate_up + (2 * int64_t{p} * width + d) * panel;
      const float* ups = gates + width * panel;
      float* to = out + (int64_t{p} * width + d) * panel;
      const int64_t floats = std::min(kRows, width - d) * panel;
#pragma omp simd
      for (int64_t i = 0; i < floats; ++i)
        to[i] = gates[i] / (1.0F + tensor::FastExp(-gates[i])) * ups[i];
    }
  }
}

}  // namespace mpo::generation
