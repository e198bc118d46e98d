// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/small_product.h"

#include <algorithm>
#include <cstring>

namespace mpo::generation {
namespace {

using Vector = float __attribute__((vector_size(64)));  // 16 rows.
constexpr int kLanes = 16;
constexpr int kMaxVectors = 4;

inline Vector Load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// `kColumns` columns of the result for all rows: kColumns x kVectors sums stay
// in registers while `depth` is walked once.
template <int kVectors, int kColumns>
void Tile(const float* packed, int rows, int depth, const float* weight,
          const float* next, bool accumulate, float* out, int64_t out_stride) {
  Vector sums[kColumns][kVectors] = {};
  for (int begin = 0; begin < depth; begin += kLanes) {
    // A cache line of every weight row of the tile that comes next.
    for (int j = 0; j < kColumns; ++j)
      __builtin_prefetch(next + int64_t{j} * depth + begin);
    const int end = std::min(depth, begin + kLanes);
    for (int d = begin; d < end; ++d) {
      Vector x[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        x[v] = Load(packed + (int64_t{d} * kVectors + v) * kLanes);
      }
      for (int j = 0; j < kColumns; ++j) {
        const float w = weight[int64_t{j} * depth + d];
        for (int v = 0; v < kVectors; ++v) sums[j][v] += w * x[v];
      }
    }
  }
  float turned[kColumns][kVectors * kLanes];
  std::memcpy(turned, sums, sizeof(turned));
  for (int i = 0; i < rows; ++i) {
    float* row = out + i * out_stride;
    for (int j = 0; j < kColumns; ++j)
      row[j] = turned[j][i] + (accumulate ? row[j] : 0.0F);
  }
}

template <int kVectors, int kColumns>
void Product(const float* x, int rows, int depth, const float* weight,
             int columns, bool accumulate, float* out, float* packed,
             int threads) {
  const int tiles = columns / kColumns;
  const int chunk = std::max(1, tiles / (8 * threads));
#pragma omp parallel num_threads(threads)
  {
    // x transposed to [depth][rows], rows filled up with zeros.
#pragma omp for schedule(static)
    for (int d = 0; d < depth; ++d) {
      float* to = packed + int64_t{d} * kVectors * kLanes;
      for (int i = 0; i < rows; ++i) to[i] = x[int64_t{i} * depth + d];
      std::fill(to + rows, to + kVectors * kLanes, 0.0F);
    }
#pragma omp for schedule(dynamic, chunk)
    for (int t = 0; t < tiles; ++t) {
      const float* w = weight + int64_t{t} * kColumns * depth;
      const float* next = t + 1 < tiles ? w + int64_t{kColumns} * depth : w;
      Tile<kVectors, kColumns>(packed, rows, depth, w, next, accumulate,
                               out + t * kColumns, columns);
    }
  }
  for (int j = tiles * kColumns; j < columns; ++j) {
    const float* w = weight + int64_t{j} * depth;
    Tile<kVectors, 1>(packed, rows, depth, w, w, accumulate, out + j, columns);
  }
}

}  // namespace

int SmallProductRows() {
#ifdef __AVX512F__
  return kMaxVectors * kLanes;
#else
  return 0;  // Half as many registers of half the width: the library wins.
#endif
}

void SmallProduct(const float* x, int rows, int depth, const float* weight,
                  int columns, bool accumulate, float* out,
                  std::vector<float>& scratch, int threads) {
  const int vectors = (rows + kLanes - 1) / kLanes;
  scratch.resize(static_cast<size_t>(depth) * vectors * kLanes);
  auto run = [&](auto product) {
    product(x, rows, depth, weight, columns, accumulate, out, scratch.data(),
            threads);
  };
  switch (vectors) {
    case 1:
      return run(Product<1, 16>);
    case 2:
      return run(Product<2, 12>);
    case 3:
      return run(Product<3, 8>);
    default:
      return run(Product<4, 6>);
  }
}

}  // namespace mpo::generation
