// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/packed_product.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mpo::tensor {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A matrix as it lies in memory: `ld` floats from row to row, of which those
// beyond the columns are NaN.
struct Matrix {
  int64_t rows, columns, ld;
  std::vector<float> floats;
};

Matrix Random(int64_t rows, int64_t columns, int64_t gap, std::mt19937& bits) {
  Matrix m{rows, columns, columns + gap, {}};
  m.floats.assign(rows * m.ld, kNan);
  std::uniform_real_distribution<float> any(-1, 1);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) m.floats[r * m.ld + c] = any(bits);
  }
  return m;
}

struct Case {
  int64_t m, n, k;
  bool a_transposed = false;
  bool b_transposed = false;
  float beta = 0;
};

struct Operands {
  Matrix a, b, c;
  Sgemm product;
};

// c holds NaN where it must not be read.
Operands Make(const Case& x, std::mt19937& bits) {
  Operands o{
      x.a_transposed ? Random(x.k, x.m, 3, bits) : Random(x.m, x.k, 3, bits),
      x.b_transposed ? Random(x.n, x.k, 5, bits) : Random(x.k, x.n, 5, bits),
      Random(x.m, x.n, 7, bits),
      {}};
  if (x.beta == 0) std::fill(o.c.floats.begin(), o.c.floats.end(), kNan);
  o.product = {.a_transposed = x.a_transposed,
               .b_transposed = x.b_transposed,
               .m = x.m,
               .n = x.n,
               .k = x.k,
               .a = o.a.floats.data(),
               .lda = o.a.ld,
               .b = o.b.floats.data(),
               .ldb = o.b.ld,
               .beta = x.beta,
               .c = o.c.floats.data(),
               .ldc = o.c.ld};
  return o;
}

double Exact(const Operands& o, const Matrix& before, int64_t r, int64_t c) {
  const Sgemm& p = o.product;
  double sum = p.beta == 0 ? 0 : before.floats[r * before.ld + c];
  for (int64_t d = 0; d < p.k; ++d) {
    const double a = p.a_transposed ? p.a[d * p.lda + r] : p.a[r * p.lda + d];
    const double b = p.b_transposed ? p.b[c * p.ldb + d] : p.b[d * p.ldb + c];
    sum += a * b;
  }
  return sum;
}

// Largest error of a result; infinite where one is NaN or the gaps between the
// rows of c were written to.
double LargestError(Operands& o) {
  const Matrix before = o.c;
  PackedProduct(o.product);
  double worst = 0;
  for (int64_t r = 0; r < o.c.rows; ++r) {
    for (int64_t c = 0; c < o.c.ld; ++c) {
      const float found = o.c.floats[r * o.c.ld + c];
      if (c >= o.c.columns) {
        if (!std::isnan(found)) return INFINITY;
        continue;
      }
      const double error = std::abs(found - Exact(o, before, r, c));
      if (std::isnan(error)) return INFINITY;
      worst = std::max(worst, error);
    }
  }
  return worst;
}

// The packed form of an operand.
class Packed {
 public:
  explicit Packed(const Sgemm& like)
      : memory_(PackedFloats(like.n, like.k) + 16) {
    PackOperand(like, floats());
  }
  float* floats() {
    const auto at = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (64 - at % 64) % 64 / sizeof(float);
  }

 private:
  std::vector<float> memory_;
};

// Whether columns from `column` on have the bits of `floats`.
bool SameFrom(int64_t column, const Matrix& c,
              const std::vector<float>& floats) {
  for (int64_t r = 0; r < c.rows; ++r) {
    if (!std::equal(c.floats.begin() + r * c.ld + column,
                    c.floats.begin() + r * c.ld + c.columns,
                    floats.begin() + r * c.ld + column)) {
      return false;
    }
  }
  return true;
}

bool Built() { return PackedProductFits({.m = 1000, .n = 1000, .k = 1000}); }

TEST_CASE("A packed product is right for all sizes, layouts and gaps",
          "[tensor]") {
  if (!Built()) {
    WARN("skipped: built for processors where it is not used");
    return;
  }
  std::mt19937 bits(1);
  // Whole tiles and blocks, and each with a remainder.
  const std::vector<std::vector<int64_t>> sizes = {
      {96, 96, 8},     {144, 112, 288}, {97, 97, 9},   {150, 96, 291},
      {289, 129, 580}, {101, 3089, 12}, {300, 160, 64}};
  for (const auto& size : sizes) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        for (const float beta : {0.0F, 1.0F}) {
          INFO(size[0] << " x " << size[2] << " x " << size[1]
                       << ", transposed " << a_transposed << " " << b_transposed
                       << ", beta " << beta);
          Operands o = Make(
              {size[0], size[1], size[2], a_transposed, b_transposed, beta},
              bits);
          REQUIRE(PackedProductFits(o.product));
          const std::vector<float> before = o.c.floats;
          CHECK(LargestError(o) < 1e-7 * static_cast<double>(size[2]) + 1e-6);
          const std::vector<float> first = o.c.floats;
          // The same bits from an operand packed before, and from its columns
          // 32 and on.
          Packed packed(o.product);
          for (const int64_t column : {0, 32}) {
            o.c.floats = before;
            Sgemm p = o.product;
            p.b = nullptr;
            p.packed_b = packed.floats() + PackedFloats(column, p.k);
            p.n -= column;
            p.c = o.c.floats.data() + column;
            PackedProduct(p);
            CHECK(SameFrom(column, o.c, first));
          }
        }
      }
    }
  }
}

TEST_CASE("Rows and columns have the same bits in a part of a packed product",
          "[tensor]") {
  if (!Built()) {
    WARN("skipped: built for processors where it is not used");
    return;
  }
  std::mt19937 bits(2);
  Operands whole =
      Make({.m = 300, .n = 160, .k = 700, .b_transposed = true}, bits);
  PackedProduct(whole.product);
  const int64_t row = 101, column = 23;
  Matrix c{120, 100, 100, std::vector<float>(120 * 100)};
  Sgemm part = whole.product;
  part.m = c.rows;
  part.n = c.columns;
  part.a += row * part.lda;
  part.b += column * part.ldb;
  part.c = c.floats.data();
  part.ldc = c.ld;
  PackedProduct(part);
  bool equal = true;
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t j = 0; j < c.columns; ++j) {
      equal &= c.floats[r * c.ld + j] ==
               whole.c.floats[(row + r) * whole.c.ld + column + j];
    }
  }
  CHECK(equal);
}

TEST_CASE("A packed product leaves other shapes and factors to the library",
          "[tensor]") {
  const Sgemm fits = {.m = 200, .n = 100, .k = 50};
  CHECK(PackedProductFits(fits) == Built());
  const auto with = [&](auto change) {
    Sgemm p = fits;
    change(p);
    return PackedProductFits(p);
  };
  CHECK_FALSE(with([](Sgemm& p) { p.m = 95; }));
  CHECK_FALSE(with([](Sgemm& p) { p.n = 95; }));
  CHECK_FALSE(with([](Sgemm& p) { p.k = 7; }));
  CHECK_FALSE(with([](Sgemm& p) { p.alpha = 2; }));
  CHECK_FALSE(with([](Sgemm& p) { p.beta = 0.5; }));
}

}  // namespace
}  // namespace mpo::tensor
