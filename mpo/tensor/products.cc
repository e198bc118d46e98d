// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/products.h"

#include <torch/torch.h>

#include <limits>

#include "mpo/tensor/openblas.h"
#include "mpo/tensor/packed_product.h"
#include "mpo/tensor/sgemm.h"

namespace mpo::tensor {
namespace {

// How a matrix lies in memory: rows `distance` apart, perhaps transposed.
struct Rows {
  bool fit = false;
  bool transposed = false;
  int64_t distance = 0;
};

Rows RowsOf(const at::Tensor& x) {
  const int64_t rows = x.size(0), columns = x.size(1);
  // The stride of a dimension of one says nothing.
  if (x.stride(1) == 1 || columns == 1) {
    const int64_t distance = rows == 1 ? columns : x.stride(0);
    if (distance >= columns) return {true, false, distance};
  }
  if (x.stride(0) == 1 || rows == 1) {
    const int64_t distance = columns == 1 ? rows : x.stride(1);
    if (distance >= rows) return {true, true, distance};
  }
  return {};
}

bool Plain(const at::Tensor& x) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  return x.dim() == 2 && x.scalar_type() == at::kFloat && x.device().is_cpu() &&
         x.numel() > 0 && x.size(0) < kMost && x.size(1) < kMost;
}

bool RunOwn(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b,
            double alpha, double beta, const at::Tensor& packed) {
  const OpenBlas* const library = OpenBlas::Get();
  if (library == nullptr || !Plain(a) || !Plain(b) || !Plain(c)) return false;
  if (a.size(1) != b.size(0) || c.size(0) != a.size(0) ||
      c.size(1) != b.size(1)) {
    return false;  // LibTorch says what is wrong.
  }
  TORCH_CHECK(
      !packed.defined() || packed.numel() == PackedFloats(b.size(1), b.size(0)),
      "packed: expected the packed form of a matrix [", b.size(0), ", ",
      b.size(1), "], found ", packed.numel(), " floats");
  const Rows of_a = RowsOf(a), of_b = RowsOf(b), of_c = RowsOf(c);
  if (!of_a.fit || !of_b.fit || !of_c.fit || of_c.transposed) return false;
  RunSgemm(
      {.a_transposed = of_a.transposed,
       .b_transposed = of_b.transposed,
       .m = c.size(0),
       .n = c.size(1),
       .k = a.size(1),
       .alpha = static_cast<float>(alpha),
       .a = a.const_data_ptr<float>(),
       .lda = of_a.distance,
       .b = b.const_data_ptr<float>(),
       .ldb = of_b.distance,
       .packed_b = packed.defined() ? packed.const_data_ptr<float>() : nullptr,
       .beta = static_cast<float>(beta),
       .c = c.mutable_data_ptr<float>(),
       .ldc = of_c.distance},
      *library, at::in_parallel_region() ? 1 : at::get_num_threads());
  return true;
}

}  // namespace

void MultiplyInto(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b,
                  double alpha, double beta, const at::Tensor& packed) {
  if (RunOwn(c, a, b, alpha, beta, packed)) return;
  at::Tensor out = c;
  if (beta == 0 && alpha == 1) {
    at::mm_out(out, a, b);
  } else {
    at::addmm_out(out, out, a, b, beta, alpha);
  }
}

at::Tensor Packed(const at::Tensor& b) {
  if (OpenBlas::Get() == nullptr || !Plain(b)) return {};
  const Rows rows = RowsOf(b);
  const Sgemm like = {.b_transposed = rows.transposed,
                      .m = std::numeric_limits<int>::max(),
                      .n = b.size(1),
                      .k = b.size(0),
                      .b = b.const_data_ptr<float>(),
                      .ldb = rows.distance};
  if (!rows.fit || !PackedProductFits(like)) return {};
  const at::Tensor packed =
      at::empty({PackedFloats(like.n, like.k)}, b.options());
  PackOperand(like, packed.mutable_data_ptr<float>());
  return packed;
}

at::Tensor Multiply(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  MultiplyInto(c, a, b);
  return c;
}

}  // namespace mpo::tensor
