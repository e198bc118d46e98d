// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/lanes.h"

#include <torch/torch.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <vector>

#include "mpo/generation/small_product.h"

namespace mpo::generation {
namespace {

float* Floats(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

// [rows, width] as [width][lanes], zero beyond the rows.
at::Tensor ToLanes(const at::Tensor& rows) {
  const int64_t lanes = LanesFor(rows.size(0));
  at::Tensor out = at::zeros({rows.size(1), lanes});
  out.narrow(1, 0, rows.size(0)).copy_(rows.t());
  return out;
}

TEST_CASE("rows become lanes and lanes rows, for any sizes", "[lanes]") {
  at::manual_seed(1);
  for (const int count : {1, 15, 16, 17, 50}) {
    for (const int width : {1, 16, 37, 64}) {
      const at::Tensor rows = at::randn({count, width});
      const int lanes = static_cast<int>(LanesFor(count));
      at::Tensor out = at::full({width, lanes}, NAN);
      RowsToLanes(Floats(rows), count, width, lanes, Floats(out));
      CHECK(at::equal(out, ToLanes(rows)));

      std::vector<const float*> turned;
      for (int i = count - 1; i >= 0; --i)
        turned.push_back(Floats(rows) + i * width);
      RowsToLanes(turned.data(), count, width, lanes, Floats(out));
      CHECK(at::equal(out, ToLanes(rows.flip(0))));

      // Into a wider matrix, whose other columns stay as they are.
      at::Tensor wide = at::full({count, width + 3}, 7.0F);
      LanesToRows(Floats(ToLanes(rows)), lanes, count, width, Floats(wide),
                  width + 3);
      CHECK(at::equal(wide.narrow(1, 0, width), rows));
      CHECK(at::equal(wide.narrow(1, width, 3), at::full({count, 3}, 7.0F)));
    }
  }
}

TEST_CASE("RmsNormLanes and SiluMulLanes equal LibTorch's formulas",
          "[lanes]") {
  at::manual_seed(2);
  for (const int width : {37, 64}) {
    const at::Tensor x = at::randn({21, width});
    const at::Tensor w = at::randn({width});
    const int lanes = static_cast<int>(LanesFor(21));
    at::Tensor out = at::empty({width, lanes});
    at::Tensor rows = at::empty({21, width});
    RmsNormLanes(Floats(ToLanes(x)), Floats(w), 1e-5F, lanes, width,
                 Floats(out), 2);
    LanesToRows(Floats(out), lanes, 21, width, Floats(rows), width);
    CHECK(at::allclose(
        rows, x * at::rsqrt(x.square().mean(-1, true) + 1e-5) * w, 1e-5, 1e-6));

    const at::Tensor both = at::randn({21, 2 * width}) * 4;
    SiluMulLanes(Floats(ToLanes(both)), lanes, width, Floats(out), 2);
    LanesToRows(Floats(out), lanes, 21, width, Floats(rows), width);
    CHECK(at::allclose(
        rows, at::silu(both.narrow(1, 0, width)) * both.narrow(1, width, width),
        1e-5, 1e-6));
  }
}

TEST_CASE(
    "SmallProduct equals mm for any number of lanes, and no lane feels the "
    "others",
    "[lanes]") {
  at::manual_seed(3);
  for (int lanes = 16; lanes <= SmallProductLanes(); lanes += 16) {
    for (const auto& [depth, columns] : {std::pair{33, 53}, std::pair{300, 20},
                                         std::pair{64, 96}, std::pair{5, 1}}) {
      const at::Tensor x = at::randn({depth, lanes});
      const at::Tensor w = at::randn({columns, depth});
      at::Tensor out = at::empty({columns, lanes});
      SmallProduct(Floats(x), lanes, depth, Floats(w), columns, false,
                   Floats(out), 2);
      CHECK(at::allclose(out, at::mm(w, x), 1e-4, 1e-4));
      // The last sixteen alone.
      at::Tensor last = at::empty({columns, 16});
      SmallProduct(Floats(x.narrow(1, lanes - 16, 16).contiguous()), 16, depth,
                   Floats(w), columns, false, Floats(last), 1);
      CHECK(at::equal(last, out.narrow(1, lanes - 16, 16)));
      SmallProduct(Floats(x), lanes, depth, Floats(w), columns, true,
                   Floats(out), 2);
      CHECK(at::allclose(out, 2 * at::mm(w, x), 1e-4, 2e-4));
    }
  }
}

TEST_CASE("RunTasks runs every task once and names a slot in range",
          "[lanes]") {
  for (const int threads : {1, 3}) {
    std::vector<std::atomic<int>> runs(40);
    std::atomic<bool> in_range = true;
    RunTasks(40, threads, [&](int i, int slot) {
      ++runs[i];
      if (slot < 0 || slot >= threads) in_range = false;
    });
    CHECK(in_range);
    for (const auto& count : runs) CHECK(count == 1);
  }
}

}  // namespace
}  // namespace mpo::generation
