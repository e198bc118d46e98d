// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/lanes.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <cmath>

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

// a0 b0 a1 b1 ... of the lower and of the upper halves.
inline Vector ZipLow(Vector a, Vector b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                 6, 22, 7, 23);
}

inline Vector ZipHigh(Vector a, Vector b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                 29, 14, 30, 15, 31);
}

// Transposes 16 x 16: four perfect shuffles of all 256 values.
inline void Turn(Vector (&rows)[kLanes]) {
  for (int round = 0; round < 4; ++round) {
    Vector zipped[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      zipped[2 * i] = ZipLow(rows[i], rows[i + kLanes / 2]);
      zipped[2 * i + 1] = ZipHigh(rows[i], rows[i + kLanes / 2]);
    }
    for (int i = 0; i < kLanes; ++i) rows[i] = zipped[i];
  }
}

// `row(i)` is where row i begins.
template <typename Row>
void ToLanes(Row row, int count, int width, int lanes, float* out) {
  for (int begin = 0; begin < lanes; begin += kLanes) {
    const int rows = std::clamp(count - begin, 0, kLanes);
    int d = 0;
    for (; rows == kLanes && d + kLanes <= width; d += kLanes) {
      Vector block[kLanes];
      for (int i = 0; i < kLanes; ++i) block[i] = Load(row(begin + i) + d);
      Turn(block);
      for (int i = 0; i < kLanes; ++i)
        Store(out + int64_t{d + i} * lanes + begin, block[i]);
    }
    for (; d < width; ++d) {
      float* to = out + int64_t{d} * lanes + begin;
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

void RowsToLanes(const float* const* rows, int count, int width, int lanes,
                 float* out) {
  ToLanes([&](int i) { return rows[i]; }, count, width, lanes, out);
}

void RowsToLanes(const float* rows, int count, int width, int lanes,
                 float* out) {
  ToLanes([&](int i) { return rows + int64_t{i} * width; }, count, width, lanes,
          out);
}

void LanesToRows(const float* in, int lanes, int count, int width, float* rows,
                 int64_t stride) {
  for (int begin = 0; begin < count; begin += kLanes) {
    const int here = std::min(kLanes, count - begin);
    float* to = rows + begin * stride;
    int d = 0;
    for (; d + kLanes <= width; d += kLanes) {
      Vector block[kLanes];
      for (int i = 0; i < kLanes; ++i)
        block[i] = Load(in + int64_t{d + i} * lanes + begin);
      Turn(block);
      for (int i = 0; i < here; ++i) Store(to + i * stride + d, block[i]);
    }
    for (; d < width; ++d) {
      for (int i = 0; i < here; ++i)
        to[i * stride + d] = in[int64_t{d} * lanes + begin + i];
    }
  }
}

void RmsNormLanes(const float* x, const float* weight, float eps, int lanes,
                  int width, float* out, int threads) {
  const int vectors = lanes / kLanes;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int v = 0; v < vectors; ++v) {
    const float* in = x + v * kLanes;
    Vector sums[4] = {};
    for (int d = 0; d < width; d += 4) {
      for (int k = 0; k < std::min(4, width - d); ++k) {
        const Vector value = Load(in + int64_t{d + k} * lanes);
        sums[k] += value * value;
      }
    }
    const Vector squares = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    Vector scale;
    for (int i = 0; i < kLanes; ++i) {
      scale[i] = 1.0F / std::sqrt(squares[i] / static_cast<float>(width) + eps);
    }
    float* to = out + v * kLanes;
    for (int d = 0; d < width; ++d) {
      const int64_t at = int64_t{d} * lanes;
      Store(to + at, Load(in + at) * scale * weight[d]);
    }
  }
}

void SiluMulLanes(const float* gate_up, int lanes, int width, float* out,
                  int threads) {
  const float* up = gate_up + int64_t{width} * lanes;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int d = 0; d < width; ++d) {
    const int64_t at = int64_t{d} * lanes;
#pragma omp simd
    for (int i = 0; i < lanes; ++i) {
      const float gate = gate_up[at + i];
      out[at + i] = gate / (1.0F + tensor::FastExp(-gate)) * up[at + i];
    }
  }
}

}  // namespace mpo::generation
