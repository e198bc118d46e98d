// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::tensor {

// Matrix products outside autograd: float32 on the CPU with RunSgemm where
// OpenBLAS is the faster library (OpenBlas::Get), all others with LibTorch.
// Thread-safe; LibTorch's exceptions pass through.

// c = alpha a b + beta c; with beta 0, c is not read. a [m, k], b [k, n], c [m,
// n], all of one dtype; views and transposes are fine. `packed`: of b from
// Packed, or undefined.
void MultiplyInto(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b,
                  double alpha = 1, double beta = 0,
                  const at::Tensor& packed = {});

// A copy of a matrix b [k, n] that does not change, in the order in which
// products read it; it saves them some 5 % of their time. Undefined where they
// would not read it.
at::Tensor Packed(const at::Tensor& b);

// a b, [m, n].
at::Tensor Multiply(const at::Tensor& a, const at::Tensor& b);

}  // namespace mpo::tensor
