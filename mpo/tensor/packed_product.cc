// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/packed_product.h"

#include <algorithm>

#include "mpo/tensor/tile.h"

namespace mpo::tensor {
namespace {

// Blocks: of op(a) [kBlockRows, depth] stays in the second-level cache, of
// op(b) [depth, kTileColumns] in the first.
constexpr int64_t kBlockRows = 144;
constexpr int64_t kBlockDepth = 288;
constexpr int64_t kBlockColumns = 3072;
constexpr int64_t kLeastRows = 96;
constexpr int64_t kLeastColumns = 96;

// Depths in even parts of at most kBlockDepth.
int64_t BlockDepth(int64_t k) {
  const int64_t parts = (k + kBlockDepth - 1) / kBlockDepth;
  return RoundUp((k + parts - 1) / parts, kTileStep);
}

struct Buffers {
  // A row of eight is stored where six are meant.
  PackedMemory a{kBlockRows * kBlockDepth + 2};
  PackedMemory b{kBlockColumns * kBlockDepth};
};

// Results [rows, columns] of one block of packed operands.
void RunBlock(int64_t depth, const float* a, const float* b,
              int64_t panel_floats, int64_t rows, int64_t columns,
              bool accumulate, float* out, int64_t ld) {
  constexpr int kShares = 8;  // Of the next panel, one fetched with each tile.
  for (int64_t c = 0; c < columns; c += kTileColumns) {
    const float* const panel = b + c / kTileColumns * panel_floats;
    const float* const next =
        c + kTileColumns < columns ? panel + panel_floats : panel;
    const int64_t wide = std::min<int64_t>(kTileColumns, columns - c);
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const float* const tile = a + r * depth;
      float* const to = out + r * ld + c;
      const int64_t high = std::min<int64_t>(kTileRows, rows - r);
      if (high < kTileRows || wide < kTileColumns) {
        EdgeTile(depth, tile, panel, high, wide, accumulate, to, ld);
        continue;
      }
      const int64_t share = r / kTileRows % kShares;
      Tile(depth, tile, panel, next + share * (kTileColumns / kShares) * depth,
           accumulate, to, ld);
    }
  }
}

}  // namespace

bool PackedProductFits(const Sgemm& p) {
  return HasTiles() && p.alpha == 1 && (p.beta == 0 || p.beta == 1) &&
         p.m >= kLeastRows && p.n >= kLeastColumns && p.k >= kTileStep;
}

int64_t PackedFloats(int64_t n, int64_t k) {
  return RoundUp(n, kTileColumns) * RoundUp(k, kTileStep);
}

void PackOperand(const Sgemm& p, float* out) {
  const Operand b = {p.b, p.ldb, !p.b_transposed};
  const int64_t most = BlockDepth(p.k);
  for (int64_t d = 0; d < p.k; d += most) {
    const int64_t depth = std::min(most, p.k - d);
    PackColumns(b.From(0, d), p.n, depth, RoundUp(depth, kTileStep),
                PackedFloats(kTileColumns, p.k), out + d * kTileColumns);
  }
}

void PackedProduct(const Sgemm& p) {
  static thread_local const Buffers buffers;
  float* const packed_a = buffers.a.get();
  float* const packed_b = buffers.b.get();
  const Operand a = {p.a, p.lda, p.a_transposed};
  const Operand b = {p.b, p.ldb, !p.b_transposed};
  const int64_t most = BlockDepth(p.k);
  for (int64_t column = 0; column < p.n; column += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, p.n - column);
    for (int64_t d = 0; d < p.k; d += most) {
      const int64_t depth = std::min(most, p.k - d);
      const int64_t padded = RoundUp(depth, kTileStep);
      const float* panels = packed_b;
      int64_t panel_floats = padded * kTileColumns;
      if (p.packed_b != nullptr) {
        panels = p.packed_b + PackedFloats(column, p.k) + d * kTileColumns;
        panel_floats = PackedFloats(kTileColumns, p.k);
      } else {
        PackColumns(b.From(column, d), columns, depth, padded, panel_floats,
                    packed_b);
      }
      for (int64_t row = 0; row < p.m; row += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, p.m - row);
        PackRows(a.From(row, d), rows, depth, padded, packed_a);
        RunBlock(padded, packed_a, panels, panel_floats, rows, columns,
                 d > 0 || p.beta != 0, p.c + row * p.ldc + column, p.ldc);
      }
    }
  }
}

}  // namespace mpo::tensor
