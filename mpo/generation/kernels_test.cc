// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/kernels.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/generation/small_product.h"

namespace mpo::generation {
namespace {

float* Floats(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

TEST_CASE("RmsNormRows, SiluMulRows and EmbedRows equal LibTorch's formulas",
          "[kernels]") {
  at::manual_seed(1);
  const at::Tensor x = at::randn({5, 37});
  const at::Tensor w = at::randn({37});
  at::Tensor out = at::empty({5, 37});
  RmsNormRows(Floats(x), Floats(w), 1e-5F, 5, 37, Floats(out), 2);
  CHECK(at::allclose(out, x * at::rsqrt(x.square().mean(-1, true) + 1e-5) * w,
                     1e-5, 1e-6));

  const at::Tensor both = at::randn({5, 74}) * 4;
  SiluMulRows(Floats(both), 5, 37, Floats(out), 2);
  CHECK(at::allclose(out,
                     at::silu(both.narrow(1, 0, 37)) * both.narrow(1, 37, 37),
                     1e-5, 1e-6));

  const int32_t tokens[] = {4, 0, 2};
  EmbedRows(Floats(x), tokens, 3, 37, Floats(out), 2);
  CHECK(
      at::equal(out.narrow(0, 0, 3), x.index_select(0, at::tensor({4, 0, 2}))));
}

TEST_CASE(
    "attention over pages equals dense attention for any grouping and size",
    "[kernels]") {
  at::manual_seed(2);
  struct Case {
    int heads, kv_heads, dim, length;
    bool norm;
  };
  for (const Case& c : {Case{9, 3, 64, 50, false}, Case{4, 2, 10, 33, true},
                        Case{7, 1, 16, 16, false}, Case{2, 2, 80, 5, true},
                        Case{5, 1, 6, 1, false}}) {
    const AttentionShape shape{
        .heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.dim};
    const int64_t offset = 48;  // As if a layer lay before.
    const int pages = (c.length + kPageTokens - 1) / kPageTokens;
    // NaN where nothing was stored must not spread.
    at::Tensor memory = at::full({pages, offset + shape.page_floats()}, NAN);
    std::vector<float*> table;
    for (int i = 0; i < pages; ++i) table.push_back(Floats(memory[i]));
    const at::Tensor qkv = at::randn({c.length, shape.qkv_size()});
    const at::Tensor bias = at::randn({shape.qkv_size()});
    const at::Tensor q_norm = at::randn({c.dim});
    const at::Tensor k_norm = at::randn({c.dim});
    const at::Tensor angle = at::randn({c.length, c.dim / 2});
    const at::Tensor cos = angle.cos();
    const at::Tensor sin = angle.sin();
    std::vector<TokenRow> rows;
    for (int i = 0; i < c.length; ++i) rows.push_back({i, table.data()});
    at::Tensor mine = qkv.clone();
    RotateAndAppend(shape, rows.data(), c.length, Floats(mine),
                    {.bias = Floats(bias),
                     .q_norm = c.norm ? Floats(q_norm) : nullptr,
                     .k_norm = c.norm ? Floats(k_norm) : nullptr,
                     .eps = 1e-5F},
                    Floats(cos), Floats(sin), offset, 2);
    at::Tensor out = at::empty({c.length, shape.q_size()});
    AttendRows(shape, rows.data(), c.length, Floats(mine), offset, Floats(out),
               2);

    auto part = [&](int begin, int heads, const at::Tensor& norm) {
      at::Tensor t = (qkv + bias)
                         .narrow(1, begin, heads * c.dim)
                         .view({c.length, heads, c.dim})
                         .transpose(0, 1);
      if (c.norm && norm.defined())
        t = t * at::rsqrt(t.square().mean(-1, true) + 1e-5) * norm;
      return t;
    };
    auto rotate = [&](const at::Tensor& t) {
      const at::Tensor a = t.narrow(-1, 0, c.dim / 2);
      const at::Tensor b = t.narrow(-1, c.dim / 2, c.dim / 2);
      return at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
    };
    const int group = c.heads / c.kv_heads;
    const at::Tensor q = rotate(part(0, c.heads, q_norm));
    const at::Tensor k = rotate(part(shape.q_size(), c.kv_heads, k_norm))
                             .repeat_interleave(group, 0);
    const at::Tensor v = part(shape.q_size() + shape.kv_size(), c.kv_heads, {})
                             .repeat_interleave(group, 0);
    const at::Tensor expected = at::scaled_dot_product_attention(
        q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), {}, 0.0,
        /*is_causal=*/true)[0];
    CHECK(at::allclose(
        out, expected.transpose(0, 1).reshape({c.length, shape.q_size()}), 1e-4,
        1e-5));
  }
}

TEST_CASE(
    "SmallProduct equals mm for any number of rows, and no row feels the "
    "others",
    "[kernels]") {
  at::manual_seed(3);
  std::vector<float> scratch;
  for (int rows = 1; rows <= SmallProductRows(); rows += 3) {
    for (const auto& [depth, columns] :
         {std::pair{33, 50}, std::pair{64, 96}, std::pair{5, 1}}) {
      const at::Tensor x = at::randn({rows, depth});
      const at::Tensor w = at::randn({columns, depth});
      at::Tensor out = at::empty({rows, columns});
      SmallProduct(Floats(x), rows, depth, Floats(w), columns, false,
                   Floats(out), scratch, 2);
      CHECK(at::allclose(out, at::mm(x, w.t()), 1e-4, 1e-4));
      at::Tensor last = at::empty({1, columns});
      SmallProduct(Floats(x[rows - 1]), 1, depth, Floats(w), columns, false,
                   Floats(last), scratch, 1);
      CHECK(at::equal(last[0], out[rows - 1]));
      SmallProduct(Floats(x), rows, depth, Floats(w), columns, true,
                   Floats(out), scratch, 2);
      CHECK(at::allclose(out, 2 * at::mm(x, w.t()), 1e-4, 2e-4));
    }
  }
}

}  // namespace
}  // namespace mpo::generation
