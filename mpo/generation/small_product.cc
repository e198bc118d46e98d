// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/small_product.h"

#include <algorithm>

#include "mpo/generation/vector16.h"

namespace mpo::generation {
namespace {

constexpr int kMaxVectors = 4;
// Products added up one after the other; such sums are then added. The shorter,
// the smaller the rounding error, and the more results are loaded and stored.
constexpr int kChain = 256;

// `kColumns` columns of the result for all lanes: kColumns x kVectors sums stay
// in registers while `depth` is walked once.
template <int kVectors, int kColumns>
void Part(const float* x, int64_t depth, int first, int last,
          const float* weight, const float* next, bool accumulate, float* out) {
  constexpr int kStride = kVectors * kLanes;
  Vector sums[kColumns][kVectors] = {};
  for (int begin = first; begin < last; begin += kLanes) {
    // A cache line of every weight row of the tile that comes next.
    for (int j = 0; j < kColumns; ++j)
      __builtin_prefetch(next + j * depth + begin);
    const int end = std::min(last, begin + kLanes);
    for (int d = begin; d < end; ++d) {
      Vector in[kVectors];
      for (int v = 0; v < kVectors; ++v)
        in[v] = Load(x + int64_t{d} * kStride + v * kLanes);
      for (int j = 0; j < kColumns; ++j) {
        const float w = weight[j * depth + d];
        for (int v = 0; v < kVectors; ++v) sums[j][v] += w * in[v];
      }
    }
  }
  for (int j = 0; j < kColumns; ++j) {
    for (int v = 0; v < kVectors; ++v) {
      float* to = out + j * kStride + v * kLanes;
      Store(to, accumulate ? Load(to) + sums[j][v] : sums[j][v]);
    }
  }
}

template <int kVectors, int kColumns>
void Tile(const float* x, int depth, const float* weight, const float* next,
          bool accumulate, float* out) {
  for (int first = 0; first < depth; first += kChain) {
    Part<kVectors, kColumns>(x, depth, first, std::min(depth, first + kChain),
                             weight, next, accumulate || first > 0, out);
  }
}

template <int kVectors, int kColumns>
void Product(const float* x, int depth, const float* weight, int columns,
             bool accumulate, float* out, int threads) {
  const int tiles = columns / kColumns;
  const int chunk = std::max(1, tiles / (8 * threads));
  auto tile = [&](int t) {
    const float* w = weight + int64_t{t} * kColumns * depth;
    const float* next = t + 1 < tiles ? w + int64_t{kColumns} * depth : w;
    Tile<kVectors, kColumns>(x, depth, w, next, accumulate,
                             out + int64_t{t} * kColumns * kVectors * kLanes);
  };
  if (threads == 1) {
    for (int t = 0; t < tiles; ++t) tile(t);
  } else {
#pragma omp parallel for num_threads(threads) schedule(dynamic, chunk)
    for (int t = 0; t < tiles; ++t) tile(t);
  }
  // Four columns at a time still hide the latency of the additions.
  int j = tiles * kColumns;
  for (; j + 4 <= columns; j += 4) {
    const float* w = weight + int64_t{j} * depth;
    Tile<kVectors, 4>(x, depth, w, w, accumulate,
                      out + int64_t{j} * kVectors * kLanes);
  }
  for (; j < columns; ++j) {
    const float* w = weight + int64_t{j} * depth;
    Tile<kVectors, 1>(x, depth, w, w, accumulate,
                      out + int64_t{j} * kVectors * kLanes);
  }
}

}  // namespace

int SmallProductLanes() {
#ifdef __AVX512F__
  return kMaxVectors * kLanes;
#else
  return 0;  // Half as many registers of half the width: the library wins.
#endif
}

void SmallProduct(const float* x, int lanes, int depth, const float* weight,
                  int columns, bool accumulate, float* out, int threads) {
  auto run = [&](auto product) {
    product(x, depth, weight, columns, accumulate, out, threads);
  };
  switch (lanes / kLanes) {
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
