// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace mpo::tensor {

class OpenBlas;

// c = alpha op(a) op(b) + beta c in float32, row-major: op(a) is [m, k], op(b)
// [k, n], c [m, n]. A transposed operand lies in memory as [k, m] or [n, k].
// `ld*` is the distance of rows in memory. With beta 0, c is not read.
struct Sgemm {
  bool a_transposed = false;
  bool b_transposed = false;
  int64_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const float* a = nullptr;
  int64_t lda = 0;
  const float* b = nullptr;
  int64_t ldb = 0;
  // op(b) as PackOperand lays it out, besides b itself; null = not packed yet.
  const float* packed_b = nullptr;
  float beta = 0;
  float* c = nullptr;
  int64_t ldc = 0;
};

// On at most `threads` OpenMP threads, each with a part of c; the same bits for
// the same number. A part goes to PackedProduct where that fits, else to
// `library`.
void RunSgemm(const Sgemm& product, const OpenBlas& library, int threads);

}  // namespace mpo::tensor
