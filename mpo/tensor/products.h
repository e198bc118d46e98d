// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::tensor {

// Matrix products outside autograd: float32 on the CPU with OpenBLAS where that
// is the faster one (OpenBlas::Get), all others with LibTorch. Thread-safe;
// LibTorch's exceptions pass through.

// c = alpha a b + beta c; with beta 0, c is not read. a [m, k], b [k, n], c [m,
// n], all of one dtype; views and transposes are fine.
void MultiplyInto(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b,
                  double alpha = 1, double beta = 0);

// a b, [m, n].
at::Tensor Multiply(const at::Tensor& a, const at::Tensor& b);

}  // namespace mpo::tensor
