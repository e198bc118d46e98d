// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace mpo::tensor {

// What matrix products on the CPU are made of (the micro-kernel and the packing
// of BLIS; van Zee and van de Geijn 2015): a tile of 6 x 16 results that stays
// in registers while its products are summed one after the other.

inline constexpr int kTileRows = 6;
inline constexpr int kTileColumns = 16;
inline constexpr int kTileStep = 8;  // Depths are multiples of it.

inline int64_t RoundUp(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// Memory for packed operands: floats of no value yet, aligned to 64 bytes.
// Throws std::bad_alloc.
class PackedMemory {
 public:
  explicit PackedMemory(int64_t size)
      : floats_(new (std::align_val_t{64}) float[size]) {}
  float* get() const { return floats_.get(); }

 private:
  struct Delete {
    void operator()(float* floats) const {
      ::operator delete[](floats, std::align_val_t{64});
    }
  };
  std::unique_ptr<float[], Delete> floats_;
};

// Whether there are tiles: in a build for AVX2 and FMA, on a processor without
// AVX-512, of which the libraries make use. Otherwise none of the functions
// below may be called.
bool HasTiles();

// out [6, 16], rows `ld` apart, (+)= x^T w for x [depth][6] and w [depth][16],
// which is aligned to 32 bytes. `next`: 2 * depth floats that are fetched into
// the cache meanwhile.
void Tile(int64_t depth, const float* x, const float* w, const float* next,
          bool accumulate, float* out, int64_t ld);

// The same of which only `rows` x `columns` are results.
void EdgeTile(int64_t depth, const float* x, const float* w, int64_t rows,
              int64_t columns, bool accumulate, float* out, int64_t ld);

// A matrix [rows, depth], or with `transposed` its transpose, as it lies in
// memory.
struct Operand {
  const float* at;
  int64_t ld;
  bool transposed;

  Operand From(int64_t row, int64_t depth) const {
    return {at + (transposed ? depth * ld + row : row * ld + depth), ld,
            transposed};
  }
};

// Rows to tiles of [padded][6], zeros beyond the rows and the depth; behind the
// last tile two floats more are written.
void PackRows(const Operand& x, int64_t rows, int64_t depth, int64_t padded,
              float* out);

// Rows (of op(b)'s transpose: its columns) to panels of [padded][16] that begin
// `panel_floats` apart, aligned to 32 bytes; zeros as in PackRows.
void PackColumns(const Operand& x, int64_t columns, int64_t depth,
                 int64_t padded, int64_t panel_floats, float* out);

}  // namespace mpo::tensor
