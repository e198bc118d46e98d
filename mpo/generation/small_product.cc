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

#ifdef __AVX512F__
// 32 registers of a Vector each: all lanes in one walk over the weights.
constexpr int kVectorsPerWalk = kMaxVectors;
constexpr int kTilesPerGroup = 1;
#else
// 16 registers of half a Vector each: 16 lanes a walk. The weights of a group
// of tiles stay in the core's cache until all lanes have been through them.
constexpr int kVectorsPerWalk = 1;
constexpr int kTilesPerGroup = 2;
#endif

// Columns whose sums stay in registers together with `vectors` of lanes.
constexpr int TileColumns(int vectors) {
  if (kVectorsPerWalk == 1) return 6;
  return vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6;
}

// A matrix of weights, or its columns from one on, and where the result goes.
struct Operands {
  const float* x;
  int stride;  // Lanes of x and out.
  int depth;
  const float* weight;
  bool accumulate;
  float* out;
};

// `kColumns` columns of the result for kVectors of lanes: their sums stay in
// registers while products [first, last) are walked once.
template <int kVectors, int kColumns>
void Part(const Operands& o, int first, int last, const float* next,
          bool accumulate) {
  const int64_t depth = o.depth;
  Vector sums[kColumns][kVectors] = {};
  for (int begin = first; begin < last; begin += kLanes) {
    // A cache line of every weight row of the tile that comes next.
    for (int j = 0; j < kColumns; ++j)
      __builtin_prefetch(next + j * depth + begin);
    const int end = std::min(last, begin + kLanes);
    for (int d = begin; d < end; ++d) {
      Vector in[kVectors];
      for (int v = 0; v < kVectors; ++v)
        in[v] = Load(o.x + int64_t{d} * o.stride + v * kLanes);
      for (int j = 0; j < kColumns; ++j) {
        const float w = o.weight[j * depth + d];
        for (int v = 0; v < kVectors; ++v) sums[j][v] += w * in[v];
      }
    }
  }
  for (int j = 0; j < kColumns; ++j) {
    for (int v = 0; v < kVectors; ++v) {
      float* to = o.out + j * o.stride + v * kLanes;
      Store(to, accumulate ? Load(to) + sums[j][v] : sums[j][v]);
    }
  }
}

// From column `column` on, for the lanes from vector `v` on.
template <int kVectors, int kColumns>
void Tile(const Operands& all, int64_t column, int64_t next, int v) {
  Operands o = all;
  o.x += v * kLanes;
  o.weight += column * o.depth;
  o.out += column * o.stride + v * kLanes;
  for (int first = 0; first < o.depth; first += kChain) {
    Part<kVectors, kColumns>(o, first, std::min(o.depth, first + kChain),
                             all.weight + next * o.depth,
                             o.accumulate || first > 0);
  }
}

template <int kVectors>
void Product(const Operands& o, int columns, int threads) {
  constexpr int kColumns = TileColumns(kVectors);
  const int vectors = o.stride / kLanes;
  const int tiles = columns / kColumns;
  const int groups = (tiles + kTilesPerGroup - 1) / kTilesPerGroup;
  auto group = [&](int index) {
    const int begin = index * kTilesPerGroup;
    const int end = std::min(tiles, begin + kTilesPerGroup);
    for (int v = 0; v < vectors; v += kVectors) {
      for (int t = begin; t < end; ++t) {
        const int next = std::min(t + 1, tiles - 1);
        Tile<kVectors, kColumns>(o, int64_t{t} * kColumns,
                                 int64_t{next} * kColumns, v);
      }
    }
  };
  if (threads == 1) {
    for (int i = 0; i < groups; ++i) group(i);
  } else {
    const int chunk = std::max(1, groups / (8 * threads));
#pragma omp parallel for num_threads(threads) schedule(dynamic, chunk)
    for (int i = 0; i < groups; ++i) group(i);
  }
  // Four columns at a time still hide the latency of the additions.
  int j = tiles * kColumns;
  for (; j + 4 <= columns; j += 4) {
    for (int v = 0; v < vectors; v += kVectors) Tile<kVectors, 4>(o, j, j, v);
  }
  for (; j < columns; ++j) {
    for (int v = 0; v < vectors; v += kVectors) Tile<kVectors, 1>(o, j, j, v);
  }
}

}  // namespace

int SmallProductLanes() {
#if defined(__AVX2__) && defined(__FMA__)
  return kMaxVectors * kLanes;
#else
  return 0;
#endif
}

void SmallProduct(const float* x, int lanes, int depth, const float* weight,
                  int columns, bool accumulate, float* out, int threads) {
  const Operands o{x, lanes, depth, weight, accumulate, out};
#ifdef __AVX512F__
  switch (lanes / kLanes) {
    case 1:
      return Product<1>(o, columns, threads);
    case 2:
      return Product<2>(o, columns, threads);
    case 3:
      return Product<3>(o, columns, threads);
    default:
      return Product<kMaxVectors>(o, columns, threads);
  }
#else
  Product<kVectorsPerWalk>(o, columns, threads);
#endif
}

}  // namespace mpo::generation
