// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mpo/tensor/sgemm.h"

namespace mpo::tensor {

// Our own product for the shapes of a model's layers: many rows of activations
// with a weight matrix. Both operands are first copied to the order in which
// they are read (packed), blocks of them stay in the core's caches, and a tile
// of 6 x 16 results stays in registers: the scheme of Goto and van de Geijn,
// "Anatomy of high-performance matrix multiplication" (2008). Sums are formed
// over at most 288 products and then added, whatever the number of rows and
// columns: a result has the same bits in every part of a larger product.

// Whether PackedProduct takes it: HasTiles(), alpha 1, beta 0 or 1, at least 96
// rows and columns, k at least 8.
bool PackedProductFits(const Sgemm& product);

// Of op(b), [k, n]: floats of its packed form, and the packed form itself, on a
// cache line of its own. Columns from a multiple of 16 on begin PackedFloats of
// those before them behind the first. Only b, ldb, b_transposed, n and k are
// read. Needs PackedProductFits of some m.
int64_t PackedFloats(int64_t n, int64_t k);
void PackOperand(const Sgemm& product, float* out);

// On the calling thread, which keeps some megabytes for the packed operands.
// Needs PackedProductFits.
void PackedProduct(const Sgemm& product);

}  // namespace mpo::tensor
