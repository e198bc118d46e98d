// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "mpo/tensor/tile.h"

// What the loops of attention multiply: heads, scores and their gradients,
// packed for tiles. Only for attention_loops.cc.
namespace mpo::model {

// Where a tile of results goes.
struct Target {
  float* at;
  int64_t ld;
  int64_t rows;  // Of the tile that are wanted.
};

// out (+)= x^T w of packed operands, x [depth][6], w [depth][16].
inline void Multiply(int64_t depth, const float* x, const float* w,
                     bool accumulate, const Target& out) {
  if (out.rows >= tensor::kTileRows) {
    tensor::Tile(depth, x, w, w, accumulate, out.at, out.ld);
  } else {
    tensor::EdgeTile(depth, x, w, out.rows, tensor::kTileColumns, accumulate,
                     out.at, out.ld);
  }
}

// Rows [length, head_dim] as panels of sixteen rows, [head_dim][16]: the keys
// of a product with queries.
class KeyPanels {
 public:
  KeyPanels(int64_t rows, int64_t dim)
      : dim_(dim), memory_(tensor::RoundUp(rows, tensor::kTileColumns) * dim) {}
  void Fill(const float* rows, int64_t length) {
    tensor::PackColumns({rows, dim_, false}, length, dim_, dim_,
                        tensor::kTileColumns * dim_, memory_.get());
  }
  const float* panel(int64_t key) { return memory_.get() + key * dim_; }

 private:
  const int64_t dim_;
  tensor::PackedMemory memory_;
};

// Rows [count, head_dim], `ld` apart, as panels of sixteen dimensions,
// [padded][16]: the values of a product with probabilities.
class ValuePanels {
 public:
  ValuePanels(int64_t rows, int64_t dim)
      : padded_(tensor::RoundUp(rows, tensor::kTileColumns)),
        dim_(dim),
        memory_(padded_ * dim) {}
  void Fill(const float* rows, int64_t ld, int64_t count) {
    tensor::PackColumns({rows, ld, true}, dim_, count, padded_,
                        padded_ * tensor::kTileColumns, memory_.get());
  }
  // Of dimensions [dim, dim + 16) from `row` on.
  const float* panel(int64_t dim, int64_t row = 0) {
    return memory_.get() + dim * padded_ + row * tensor::kTileColumns;
  }

 private:
  const int64_t padded_;
  const int64_t dim_;
  tensor::PackedMemory memory_;
};

// The scores of six queries, and what becomes of them: rows [6, padded length],
// and packed for a product over the keys, [keys][6].
class ScoreRows {
 public:
  explicit ScoreRows(int64_t length)
      : padded_(tensor::RoundUp(length, tensor::kTileColumns)),
        rows_(tensor::kTileRows * padded_),
        packed_(tensor::kTileRows * padded_ + 2) {}
  float* row(int64_t i) { return rows_.get() + i * padded_; }

  void Score(const float* queries, int64_t dim, KeyPanels& keys, int64_t seen) {
    for (int64_t key = 0; key < seen; key += tensor::kTileColumns) {
      Multiply(dim, queries, keys.panel(key), /*accumulate=*/false,
               {row(0) + key, padded_, tensor::kTileRows});
    }
  }

  const float* Packed(int64_t seen) {
    tensor::PackRows({row(0), padded_, false}, tensor::kTileRows, seen, seen,
                     packed_.get());
    return packed_.get();
  }

 private:
  const int64_t padded_;
  tensor::PackedMemory rows_, packed_;
};

// Keys that the tile of queries from `query` on looks at: whole panels.
inline int64_t Seen(int64_t query, int64_t length) {
  return tensor::RoundUp(std::min(query + tensor::kTileRows, length),
                         tensor::kTileColumns);
}

}  // namespace mpo::model
