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

// [rows, width] as [panels, width, panel], zero beyond the rows.
at::Tensor ToLanes(const at::Tensor& rows, int panel) {
  at::Tensor out = at::zeros({LanesFor(rows.size(0)), rows.size(1)});
  out.narrow(0, 0, rows.size(0)).copy_(rows);
  return out.view({-1, panel, rows.size(1)}).transpose(1, 2).contiguous();
}

// In panels of sixteen, and all in one.
std::vector<Lanes> LayoutsOf(int rows) {
  const int count = static_cast<int>(LanesFor(rows));
  return {{count, kLanesPerVector}, {count, count}};
}

// Back from ToLanes, with the lanes beyond the rows.
at::Tensor ToRows(const at::Tensor& lanes) {
  return lanes.transpose(1, 2).reshape({-1, lanes.size(1)});
}

void CheckTurning(int count, int width, Lanes lanes) {
  const at::Tensor rows = at::randn({count, width});
  const at::Tensor expected = ToLanes(rows, lanes.panel);
  at::Tensor out = at::full_like(expected, NAN);
  RowsToLanes(Floats(rows), count, width, lanes, Floats(out));
  CHECK(at::equal(out, expected));

  std::vector<const float*> turned;
  for (int i = count - 1; i >= 0; --i)
    turned.push_back(Floats(rows) + i * width);
  RowsToLanes(turned.data(), count, width, lanes, Floats(out));
  CHECK(at::equal(out, ToLanes(rows.flip(0), lanes.panel)));

  // Into a wider matrix, whose other columns stay as they are.
  at::Tensor wide = at::full({count, width + 3}, 7.0F);
  LanesToRows(Floats(expected), lanes, count, width, Floats(wide), width + 3);
  CHECK(at::equal(wide.narrow(1, 0, width), rows));
  CHECK(at::equal(wide.narrow(1, width, 3), at::full({count, 3}, 7.0F)));
}

TEST_CASE("rows become lanes and lanes rows, for any sizes", "[lanes]") {
  at::manual_seed(1);
  for (const int count : {1, 15, 16, 17, 50}) {
    for (const int width : {1, 16, 37, 64}) {
      for (const Lanes lanes : LayoutsOf(count))
        CheckTurning(count, width, lanes);
    }
  }
}

TEST_CASE("RmsNormLanes and SiluMulLanes equal LibTorch's formulas",
          "[lanes]") {
  at::manual_seed(2);
  for (const int width : {37, 64, 150}) {
    const at::Tensor x = at::randn({21, width});
    const at::Tensor w = at::randn({width});
    const at::Tensor both = at::randn({21, 2 * width}) * 4;
    for (const Lanes lanes : LayoutsOf(21)) {
      at::Tensor out = at::empty_like(ToLanes(x, lanes.panel));
      RmsNormLanes(Floats(ToLanes(x, lanes.panel)), Floats(w), 1e-5F, lanes,
                   width, Floats(out), 2);
      CHECK(at::allclose(ToRows(out).narrow(0, 0, 21),
                         x * at::rsqrt(x.square().mean(-1, true) + 1e-5) * w,
                         1e-5, 1e-6));

      SiluMulLanes(Floats(ToLanes(both, lanes.panel)), lanes, width,
                   Floats(out), 2);
      CHECK(at::allclose(
          ToRows(out).narrow(0, 0, 21),
          at::silu(both.narrow(1, 0, width)) * both.narrow(1, width, width),
          1e-5, 1e-6));
    }
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
      const at::Tensor x = at::randn({lanes, depth});
      const at::Tensor in = ToLanes(x, 16);
      const at::Tensor w = at::randn({columns, depth});
      at::Tensor out = at::empty({lanes / 16, columns, 16});
      SmallProduct(Floats(in), lanes, depth, Floats(w), columns, false,
                   Floats(out), 2);
      CHECK(at::allclose(ToRows(out), at::mm(x, w.t()), 1e-4, 1e-4));
      // The last sixteen alone.
      at::Tensor last = at::empty({columns, 16});
      SmallProduct(Floats(in[-1]), 16, depth, Floats(w), columns, false,
                   Floats(last), 1);
      CHECK(at::equal(last, out[-1]));
      SmallProduct(Floats(in), lanes, depth, Floats(w), columns, true,
                   Floats(out), 2);
      CHECK(at::allclose(ToRows(out), 2 * at::mm(x, w.t()), 1e-4, 2e-4));
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
