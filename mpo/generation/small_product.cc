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

struct Operands {
  const float* x;
  int lanes;
  int depth;
  const float* weight;
  int columns;
  bool accumulate;
  float* out;

  // Floats from one panel to the next.
  int64_t x_panel() const { return int64_t{depth} * kLanes; }
  int64_t out_panel() const { return int64_t{columns} * kLanes; }
};

// `count` products of some columns for some lanes, from these pointers on.
struct Part {
  int count;
  const float* x;
  const float* weight;
  const float* next;  // The same of the next columns, to be fetched.
  bool accumulate;
  float* out;
};

inline void StoreSum(bool accumulate, const Vector& sum, float* out) {
  Store(out, accumulate ? Load(out) + sum : sum);
}

// `kColumns` columns of the result for kVectors of lanes: their sums stay in
// registers while the products are walked once.
template <int kVectors, int kColumns>
void Multiply(const Operands& o, const Part& part) {
  const int64_t depth = o.depth;
  Vector sums[kColumns][kVectors] = {};
  for (int begin = 0; begin < part.count; begin += kLanes) {
    // A cache line of each of the next weight rows.
    for (int j = 0; j < kColumns; ++j)
      __builtin_prefetch(part.next + j * depth + begin);
    const int end = std::min(part.count, begin + kLanes);
    for (int d = begin; d < end; ++d) {
      Vector in[kVectors];
      for (int v = 0; v < kVectors; ++v)
        in[v] = Load(part.x + d * kLanes + v * o.x_panel());
      for (int j = 0; j < kColumns; ++j) {
        const float w = part.weight[j * depth + d];
        for (int v = 0; v < kVectors; ++v) sums[j][v] += w * in[v];
      }
    }
  }
  for (int j = 0; j < kColumns; ++j) {
    for (int v = 0; v < kVectors; ++v) {
      StoreSum(part.accumulate, sums[j][v],
               part.out + j * kLanes + v * o.out_panel());
    }
  }
}

using MultiplyFunction = void (*)(const Operands& o, const Part& part);

struct Tile {
  int columns;
  MultiplyFunction multiply;
};

// How a result is walked: `vectors` of lanes at a time; as many columns as fit
// the first tile, `group` tiles before the next lanes, then the other tiles.
struct Walk {
  int vectors;
  int group;
  Tile tiles[4];
};

#if defined(__AVX2__) && !defined(__AVX512F__)

inline void Add(float weight, const Vector& in, Half& low, Half& high) {
  low += weight * in.low;
  high += weight * in.high;
}

// Multiply<1, 6>, for a multiple of 16 products: the sums take 12 of
// the 16 registers. GCC keeps arrays of sums in memory, and left free it loads
// so far ahead that sums have to go there, and derives the pointers from each
// other anew. Hence the names, and the empty statements: a value that passes
// through one is in a register, and what it was computed from is unknown.
void MultiplySix(const Operands& o, const Part& part) {
  const int64_t depth = o.depth;
  const float* x = part.x;
  const float* next = part.next;
  const float *a = part.weight, *b = a + depth, *c = b + depth, *d = c + depth,
              *e = d + depth, *f = e + depth;
  asm("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
  int64_t at = 0;
  Half a0 = {}, b0 = {}, c0 = {}, d0 = {}, e0 = {}, f0 = {};
  Half a1 = {}, b1 = {}, c1 = {}, d1 = {}, e1 = {}, f1 = {};
  for (int count = part.count; count > 0; count -= kLanes) {
    for (int j = 0; j < 6; ++j) __builtin_prefetch(next + j * depth + at);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const Vector in = Load(x + i * kLanes);
      Add(a[at + i], in, a0, a1);
      Add(b[at + i], in, b0, b1);
      Add(c[at + i], in, c0, c1);
      Add(d[at + i], in, d0, d1);
      Add(e[at + i], in, e0, e1);
      Add(f[at + i], in, f0, f1);
      asm(""
          : "+x"(a0), "+x"(a1), "+x"(b0), "+x"(b1), "+x"(c0), "+x"(c1),
            "+x"(d0), "+x"(d1), "+x"(e0), "+x"(e1), "+x"(f0), "+x"(f1));
    }
    at += kLanes;
    x += kLanes * kLanes;
    asm("" : "+r"(x));
  }
  const bool accumulate = part.accumulate;
  float* const out = part.out;
  StoreSum(accumulate, {a0, a1}, out);
  StoreSum(accumulate, {b0, b1}, out + kLanes);
  StoreSum(accumulate, {c0, c1}, out + 2 * kLanes);
  StoreSum(accumulate, {d0, d1}, out + 3 * kLanes);
  StoreSum(accumulate, {e0, e1}, out + 4 * kLanes);
  StoreSum(accumulate, {f0, f1}, out + 5 * kLanes);
}

Walk WalkFor(const Operands& o) {
  const bool six = o.depth % kLanes == 0;
  return {1,
          4,
          {{6, six ? MultiplySix : Multiply<1, 6>},
           {4, Multiply<1, 4>},
           {2, Multiply<1, 2>},
           {1, Multiply<1, 1>}}};
}

#else

template <int kVectors, int kColumns>
Walk WalkOf() {
  return {kVectors,
          1,
          {{kColumns, Multiply<kVectors, kColumns>},
           {4, Multiply<kVectors, 4>},
           {2, Multiply<kVectors, 2>},
           {1, Multiply<kVectors, 1>}}};
}

// 32 registers of a Vector each: all lanes in one walk over the weights.
Walk WalkFor(const Operands& o) {
  switch (o.lanes / kLanes) {
    case 1:
      return WalkOf<1, 16>();
    case 2:
      return WalkOf<2, 12>();
    case 3:
      return WalkOf<3, 8>();
    default:
      return WalkOf<kMaxVectors, 6>();
  }
}

#endif

// The columns of tiles [begin, end) of one kind, tile 0 at column `column`.
void RunTiles(const Operands& o, const Walk& walk, const Tile& tile,
              int64_t column, int begin, int end) {
  for (int v = 0; v < o.lanes / kLanes; v += walk.vectors) {
    for (int first = 0; first < o.depth; first += kChain) {
      const float* x = o.x + v * o.x_panel() + first * kLanes;
      for (int t = begin; t < end; ++t) {
        const int64_t at = column + int64_t{t} * tile.columns;
        const int64_t next =
            std::min<int64_t>(at + tile.columns, o.columns - tile.columns);
        tile.multiply(o, {.count = std::min(kChain, o.depth - first),
                          .x = x,
                          .weight = o.weight + at * o.depth + first,
                          .next = o.weight + next * o.depth + first,
                          .accumulate = o.accumulate || first > 0,
                          .out = o.out + v * o.out_panel() + at * kLanes});
      }
    }
  }
}

void Run(const Operands& o, int threads) {
  const Walk walk = WalkFor(o);
  const int tiles = o.columns / walk.tiles[0].columns;
  const int groups = (tiles + walk.group - 1) / walk.group;
  auto run = [&](int i) {
    RunTiles(o, walk, walk.tiles[0], 0, i * walk.group,
             std::min(tiles, (i + 1) * walk.group));
  };
  if (threads == 1) {
    for (int i = 0; i < groups; ++i) run(i);
  } else {
    const int chunk = std::max(1, groups / (8 * threads));
#pragma omp parallel for num_threads(threads) schedule(dynamic, chunk)
    for (int i = 0; i < groups; ++i) run(i);
  }
  int column = tiles * walk.tiles[0].columns;
  for (const Tile& tile : walk.tiles) {
    const int count = (o.columns - column) / tile.columns;
    RunTiles(o, walk, tile, column, 0, count);
    column += count * tile.columns;
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

Lanes LanesOf(int rows) {
  const int lanes = static_cast<int>(LanesFor(rows));
  return {lanes, lanes <= SmallProductLanes() ? kLanesPerVector : lanes};
}

void SmallProduct(const float* x, int lanes, int depth, const float* weight,
                  int columns, bool accumulate, float* out, int threads) {
  Run({x, lanes, depth, weight, columns, accumulate, out}, threads);
}

}  // namespace mpo::generation
