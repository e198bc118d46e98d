// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/products.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <vector>

#include "mpo/tensor/openblas.h"
#include "mpo/tensor/sgemm.h"
#include "mpo/tensor/tile.h"

namespace mpo::tensor {
namespace {

// A matrix of random numbers, of which `kind` says how it lies in memory.
at::Tensor Matrix(int64_t rows, int64_t columns, int kind) {
  switch (kind) {
    case 0:
      return at::randn({rows, columns});
    case 1:
      return at::randn({columns, rows}).t();
    case 2:  // Part of wider rows.
      return at::randn({rows, columns + 5}).narrow(1, 3, columns);
    case 3:
      return at::randn({columns, rows + 5}).narrow(1, 3, rows).t();
    default:  // Neither rows nor columns lie in one piece.
      return at::randn({rows, columns, 2}).select(2, 0);
  }
}

// Whether this machine multiplies with RunSgemm and tiles of our own.
bool OwnProducts() { return OpenBlas::Get() != nullptr && HasTiles(); }

void CheckProduct(int64_t m, int64_t k, int64_t n) {
  INFO(m << " x " << k << " x " << n);
  for (int of_a = 0; of_a < 5; ++of_a) {
    for (int of_b = 0; of_b < 5; ++of_b) {
      INFO("layouts " << of_a << ", " << of_b);
      const at::Tensor a = Matrix(m, k, of_a), b = Matrix(k, n, of_b);
      const at::Tensor exact = at::mm(a.to(at::kDouble), b.to(at::kDouble));
      const double bound = 1e-5 * static_cast<double>(k) + 1e-5;
      CHECK((Multiply(a, b) - exact).abs().max().item<double>() < bound);
      const at::Tensor c = Matrix(m, n, 2);
      const at::Tensor before = c.clone();
      MultiplyInto(c, a, b, 0.5, 2);
      CHECK((c - (exact * 0.5 + before * 2)).abs().max().item<double>() <
            bound);
      // What was there is not read.
      const at::Tensor none = at::full({m, n}, NAN);
      MultiplyInto(none, a, b);
      CHECK(none.isfinite().all().item<bool>());
    }
  }
}

TEST_CASE("Products are right whatever way the matrices lie", "[tensor]") {
  torch::manual_seed(1);
  const std::vector<std::vector<int64_t>> sizes = {
      {1, 1, 1},  {1, 7, 5},     {5, 7, 1},     {3, 1, 4},
      {64, 9, 2}, {200, 40, 33}, {17, 64, 400}, {300, 96, 500}};
  for (const auto& size : sizes) CheckProduct(size[0], size[1], size[2]);
}

TEST_CASE("A packed matrix gives the bits of the matrix itself", "[tensor]") {
  torch::manual_seed(3);
  const at::Tensor a = at::randn({200, 300});
  for (const int kind : {0, 1, 2, 3, 4}) {
    INFO("layout " << kind);
    const at::Tensor b = Matrix(300, 4000, kind);
    const at::Tensor packed = Packed(b);
    CHECK(packed.defined() == (OwnProducts() && kind != 4));
    const at::Tensor c = at::full({200, 4000}, NAN), d = c.clone();
    MultiplyInto(c, a, b);
    MultiplyInto(d, a, b, 1, 0, packed);
    CHECK(at::equal(c, d));
    // Few rows go another way.
    CHECK(at::allclose(Multiply(a.narrow(0, 0, 3), b), c.narrow(0, 0, 3), 1e-4,
                       1e-4));
    MultiplyInto(d.narrow(0, 0, 3), a.narrow(0, 0, 3), b, 1, 0, packed);
    CHECK(at::equal(d.narrow(0, 0, 3), Multiply(a.narrow(0, 0, 3), b)));
  }
  CHECK_FALSE(Packed(at::ones({0, 3})).defined());
  if (OwnProducts()) {
    CHECK_THROWS(MultiplyInto(at::empty({200, 4000}), a, at::ones({300, 4000}),
                              1, 0, Packed(at::ones({300, 160}))));
  }
  CHECK_FALSE(Packed(at::ones({300, 2})).defined());
  CHECK_FALSE(Packed(at::ones({300, 300}, at::kDouble)).defined());
}

TEST_CASE("Empty products and other dtypes are LibTorch's", "[tensor]") {
  CHECK(Multiply(at::ones({0, 3}), at::ones({3, 2})).sizes() ==
        at::IntArrayRef({0, 2}));
  CHECK(at::equal(Multiply(at::ones({2, 0}), at::ones({0, 2})),
                  at::zeros({2, 2})));
  CHECK(at::equal(
      Multiply(at::ones({2, 3}, at::kDouble), at::ones({3, 2}, at::kDouble)),
      at::full({2, 2}, 3.0, at::kDouble)));
  CHECK_THROWS(Multiply(at::ones({2, 3}), at::ones({2, 2})));
}

TEST_CASE("RunSgemm gives the same bits for the same threads", "[tensor]") {
  const auto library = OpenBlas::Load(
      "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0");
  if (!library.has_value()) {
    WARN("skipped: libopenblas0-pthread is not installed");
    return;
  }
  CHECK_THAT(library->description(), Catch::Contains("OpenBLAS"));
  torch::manual_seed(2);
  // Of 200 columns the tiles take most parts, of 90 the library.
  const int64_t columns = GENERATE(90, 200);
  const at::Tensor a = at::randn({300, 64}), b = at::randn({64, columns});
  const at::Tensor exact = at::mm(a.to(at::kDouble), b.to(at::kDouble));
  for (int threads : {1, 2, 3, 8}) {
    at::Tensor first;
    for (int again = 0; again < 3; ++again) {
      const at::Tensor c = at::empty({300, columns});
      RunSgemm({.m = 300,
                .n = columns,
                .k = 64,
                .a = a.const_data_ptr<float>(),
                .lda = 64,
                .b = b.const_data_ptr<float>(),
                .ldb = columns,
                .c = c.mutable_data_ptr<float>(),
                .ldc = columns},
               *library, threads);
      CHECK((c - exact).abs().max().item<double>() < 1e-4);
      if (first.defined()) CHECK(at::equal(first, c));
      first = c;
    }
  }
}

TEST_CASE("What is not OpenBLAS is not loaded", "[tensor]") {
  CHECK_FALSE(OpenBlas::Load("/nowhere/libopenblas.so.0").has_value());
  CHECK_FALSE(OpenBlas::Load("libm.so.6").has_value());
}

}  // namespace
}  // namespace mpo::tensor
