// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/sgemm.h"

#include <algorithm>

#include "mpo/tensor/openblas.h"
#include "mpo/tensor/packed_product.h"
#include "mpo/tensor/parallel.h"

namespace mpo::tensor {
namespace {

// Below these a part is not worth a thread.
constexpr int64_t kLeastWork = 1 << 18;  // Multiplications.
constexpr int64_t kLeastRows = 128;
// Times as many columns as rows from which on columns are split in any case.
constexpr int64_t kMostWider = 16;
// Packed panels of columns begin at multiples of this.
constexpr int64_t kPanel = 16;

Sgemm Part(Sgemm p, int64_t row, int64_t rows, int64_t column,
           int64_t columns) {
  p.a += row * (p.a_transposed ? 1 : p.lda);
  p.b += column * (p.b_transposed ? p.ldb : 1);
  if (p.packed_b != nullptr) p.packed_b += PackedFloats(column, p.k);
  p.c += row * p.ldc + column;
  p.m = rows;
  p.n = columns;
  return p;
}

}  // namespace

void RunSgemm(const Sgemm& p, const OpenBlas& library, int threads) {
  const int64_t work = p.m * p.n * p.k;
  const auto parts = static_cast<int>(
      std::clamp<int64_t>(work / kLeastWork, 1, std::max(1, threads)));
  // Every part packs what it does not split.
  const bool by_rows =
      p.m >= p.n || (p.m >= parts * kLeastRows && p.n < kMostWider * p.m);
  const int64_t length = by_rows ? p.m : p.n;
  OnThreads(parts, [&](int i) {
    const int64_t step = !by_rows && p.packed_b != nullptr ? kPanel : 1;
    const auto border = [&](int64_t part) {
      return part == parts ? length : length * part / parts / step * step;
    };
    const int64_t begin = border(i);
    const int64_t count = border(i + 1) - begin;
    if (count == 0) return;
    const Sgemm part =
        by_rows ? Part(p, begin, count, 0, p.n) : Part(p, 0, p.m, begin, count);
    if (PackedProductFits(part)) {
      PackedProduct(part);
    } else {
      library.Run(part);
    }
  });
}

}  // namespace mpo::tensor
