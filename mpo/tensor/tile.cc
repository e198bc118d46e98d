// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/tile.h"

#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace mpo::tensor {
namespace {

using Half = __m256;

[[gnu::always_inline]] inline void Transpose(Half (&r)[8]) {
  Half t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  Half u[8];
  for (int h = 0; h < 8; h += 4) {
    u[h] = _mm256_shuffle_ps(t[h], t[h + 2], 0x44);
    u[h + 1] = _mm256_shuffle_ps(t[h], t[h + 2], 0xEE);
    u[h + 2] = _mm256_shuffle_ps(t[h + 1], t[h + 3], 0x44);
    u[h + 3] = _mm256_shuffle_ps(t[h + 1], t[h + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}

// Up to `width` rows of `depth` floats to [padded][width], zeros where there
// are none; element by element.
void PackEdge(const Operand& x, int64_t rows, int64_t depth, int64_t padded,
              int width, float* out) {
  std::memset(out, 0, padded * width * sizeof(float));
  for (int64_t d = 0; d < depth; ++d) {
    for (int64_t r = 0; r < rows; ++r) out[d * width + r] = *x.From(r, d).at;
  }
}

// Rows to tiles of [padded][kWidth], `tile_floats` apart.
template <int kWidth>
void Pack(const Operand& x, int64_t rows, int64_t depth, int64_t padded,
          int64_t tile_floats, float* out) {
  const int64_t whole = x.transposed ? depth : depth / kTileStep * kTileStep;
  for (int64_t r = 0; r < rows; r += kWidth, out += tile_floats) {
    const Operand tile = x.From(r, 0);
    if (rows - r < kWidth) {
      PackEdge(tile, rows - r, depth, padded, kWidth, out);
      continue;
    }
    if (x.transposed) {
      for (int64_t d = 0; d < depth; ++d) {
        std::memcpy(out + d * kWidth, tile.at + d * x.ld,
                    kWidth * sizeof(float));
      }
    } else {
      for (int64_t d = 0; d < whole; d += kTileStep) {
        for (int first = 0; first < kWidth; first += 8) {
          Half part[8];
          for (int i = 0; i < 8; ++i) {
            const int row = std::min(first + i, kWidth - 1);
            part[i] = _mm256_loadu_ps(tile.at + row * x.ld + d);
          }
          Transpose(part);
          // Floats beyond the width are what the next store writes.
          for (int i = 0; i < 8; ++i)
            _mm256_storeu_ps(out + (d + i) * kWidth + first, part[i]);
        }
      }
    }
    PackEdge(tile.From(0, whole), kWidth, depth - whole, padded - whole, kWidth,
             out + whole * kWidth);
  }
}

inline void Add(float x, Half low, Half high, Half& sum_low, Half& sum_high) {
  const Half all = _mm256_set1_ps(x);
  sum_low = _mm256_fmadd_ps(all, low, sum_low);
  sum_high = _mm256_fmadd_ps(all, high, sum_high);
}

inline void StoreSum(bool accumulate, Half low, Half high, float* out) {
  if (accumulate) {
    low = _mm256_add_ps(_mm256_loadu_ps(out), low);
    high = _mm256_add_ps(_mm256_loadu_ps(out + 8), high);
  }
  _mm256_storeu_ps(out, low);
  _mm256_storeu_ps(out + 8, high);
}

}  // namespace

bool HasTiles() {
  static const bool has = !__builtin_cpu_supports("avx512f");
  return has;
}

void PackRows(const Operand& x, int64_t rows, int64_t depth, int64_t padded,
              float* out) {
  Pack<kTileRows>(x, rows, depth, padded, padded * kTileRows, out);
}

void PackColumns(const Operand& x, int64_t columns, int64_t depth,
                 int64_t padded, int64_t panel_floats, float* out) {
  Pack<kTileColumns>(x, columns, depth, padded, panel_floats, out);
}

// The sums take 12 of the 16 registers: the names and the empty statements keep
// them there (see MultiplySix of generation/small_product.cc).
[[gnu::noinline]] void Tile(int64_t depth, const float* x, const float* w,
                            const float* next, bool accumulate, float* out,
                            int64_t ld) {
  for (int i = 0; i < kTileRows; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(out + i * ld), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(out + i * ld + kTileColumns - 1),
                 _MM_HINT_T0);
  }
  const Half zero = _mm256_setzero_ps();
  Half a0 = zero, b0 = zero, c0 = zero, d0 = zero, e0 = zero, f0 = zero;
  Half a1 = zero, b1 = zero, c1 = zero, d1 = zero, e1 = zero, f1 = zero;
  for (; depth > 0; depth -= kTileStep) {
    _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
    next += kTileColumns;
#pragma GCC unroll 8
    for (int i = 0; i < kTileStep; ++i) {
      const Half low = _mm256_load_ps(w + i * kTileColumns);
      const Half high = _mm256_load_ps(w + i * kTileColumns + 8);
      const float* const row = x + i * kTileRows;
      Add(row[0], low, high, a0, a1);
      Add(row[1], low, high, b0, b1);
      Add(row[2], low, high, c0, c1);
      Add(row[3], low, high, d0, d1);
      Add(row[4], low, high, e0, e1);
      Add(row[5], low, high, f0, f1);
      asm(""
          : "+x"(a0), "+x"(a1), "+x"(b0), "+x"(b1), "+x"(c0), "+x"(c1),
            "+x"(d0), "+x"(d1), "+x"(e0), "+x"(e1), "+x"(f0), "+x"(f1));
    }
    x += kTileStep * kTileRows;
    w += kTileStep * kTileColumns;
    asm("" : "+r"(x), "+r"(w));
  }
  StoreSum(accumulate, a0, a1, out);
  StoreSum(accumulate, b0, b1, out + ld);
  StoreSum(accumulate, c0, c1, out + 2 * ld);
  StoreSum(accumulate, d0, d1, out + 3 * ld);
  StoreSum(accumulate, e0, e1, out + 4 * ld);
  StoreSum(accumulate, f0, f1, out + 5 * ld);
}

void EdgeTile(int64_t depth, const float* x, const float* w, int64_t rows,
              int64_t columns, bool accumulate, float* out, int64_t ld) {
  alignas(64) float tile[kTileRows * kTileColumns];
  Tile(depth, x, w, w, /*accumulate=*/false, tile, kTileColumns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      float& to = out[i * ld + j];
      to = accumulate ? to + tile[i * kTileColumns + j]
                      : tile[i * kTileColumns + j];
    }
  }
}

}  // namespace mpo::tensor

#else

#include <cstdlib>

namespace mpo::tensor {

bool HasTiles() { return false; }
void Tile(int64_t, const float*, const float*, const float*, bool, float*,
          int64_t) {
  std::abort();
}
void EdgeTile(int64_t, const float*, const float*, int64_t, int64_t, bool,
              float*, int64_t) {
  std::abort();
}
void PackRows(const Operand&, int64_t, int64_t, int64_t, float*) {
  std::abort();
}
void PackColumns(const Operand&, int64_t, int64_t, int64_t, int64_t, float*) {
  std::abort();
}

}  // namespace mpo::tensor

#endif
