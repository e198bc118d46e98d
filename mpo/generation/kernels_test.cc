// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/kernels.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>

namespace mpo::generation {
namespace {

float* Floats(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

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

}  // namespace
}  // namespace mpo::generation
