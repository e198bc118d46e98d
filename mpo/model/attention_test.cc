// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/attention.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mpo/model/attention_loops.h"

namespace mpo::model {
namespace {

struct Inputs {
  at::Tensor q, k, v;
};

Inputs Random(const AttentionShape& s, int64_t seed) {
  torch::manual_seed(seed);
  const auto heads = [&](int64_t count) {
    return at::randn({s.batch, count, s.length, s.head_dim}) * 2;
  };
  return {heads(s.heads), heads(s.kv_heads), heads(s.kv_heads)};
}

Inputs Leaves(const Inputs& x, at::ScalarType dtype) {
  const auto leaf = [&](const at::Tensor& t) {
    return t.to(dtype).clone().set_requires_grad(true);
  };
  return {leaf(x.q), leaf(x.k), leaf(x.v)};
}

// The formula, of whole matrices.
at::Tensor Formula(const Inputs& x) {
  const int64_t repeat = x.q.size(1) / x.k.size(1), length = x.q.size(2);
  const at::Tensor k = x.k.repeat_interleave(repeat, 1);
  const at::Tensor v = x.v.repeat_interleave(repeat, 1);
  const at::Tensor later = at::ones({length, length}, at::kBool).triu(1);
  const at::Tensor scores =
      (x.q.matmul(k.transpose(2, 3)) /
       std::sqrt(static_cast<double>(x.q.size(3))))
          .masked_fill(later, -std::numeric_limits<double>::infinity());
  return scores.softmax(-1).matmul(v).transpose(1, 2).flatten(2);
}

double Difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST_CASE("Attention has the values and gradients of its formula", "[model]") {
  const int64_t length = GENERATE(1, 2, 6, 7, 16, 33, 95, 96, 97, 108, 205);
  const int64_t dim = GENERATE(16, 64, 8);  // 8: LibTorch's.
  const int64_t kv_heads = GENERATE(1, 3);
  const AttentionShape shape{2, length, 3, kv_heads, dim};
  INFO("length " << length << ", head_dim " << dim << ", kv_heads "
                 << kv_heads);
  const Inputs random = Random(shape, length);
  const Inputs x = Leaves(random, at::kFloat);
  const Inputs wide = Leaves(random, at::kDouble);
  const at::Tensor out = Attention(x.q, x.k, x.v);
  const at::Tensor expected = Formula(wide);
  REQUIRE(out.sizes() == expected.sizes());
  CHECK(Difference(out, expected) < 1e-5);
  const at::Tensor g = at::randn(out.sizes());
  out.backward(g);
  expected.backward(g.to(at::kDouble));
  CHECK(Difference(x.q.grad(), wide.q.grad()) < 5e-5);
  CHECK(Difference(x.k.grad(), wide.k.grad()) < 5e-5);
  CHECK(Difference(x.v.grad(), wide.v.grad()) < 5e-5);
}

TEST_CASE("Attention of a token does not depend on later ones", "[model]") {
  const AttentionShape shape{1, 110, 4, 2, 32};
  Inputs x = Random(shape, 1);
  const at::Tensor before = Attention(x.q, x.k, x.v);
  for (at::Tensor* const t : {&x.q, &x.k, &x.v})
    t->narrow(2, 50, 60).mul_(-7).add_(3);
  const at::Tensor after = Attention(x.q, x.k, x.v);
  CHECK(at::allclose(before.narrow(1, 0, 50), after.narrow(1, 0, 50), 1e-5,
                     1e-6));
  CHECK_FALSE(at::allclose(before.narrow(1, 50, 60), after.narrow(1, 50, 60)));
}

TEST_CASE("Attention passes NaN on", "[model]") {
  const int64_t dim = GENERATE(16, 8);  // 8: LibTorch's.
  Inputs x = Random({2, 40, 2, 2, dim}, 4);
  x.k[1][0][20].fill_(std::nanf(""));
  const at::Tensor out = Attention(x.q, x.k, x.v);
  CHECK(out[0].isfinite().all().item<bool>());
  CHECK(out[1].narrow(0, 20, 20).narrow(1, 0, dim).isnan().all().item<bool>());
}

TEST_CASE("Attention refuses shapes that do not fit", "[model]") {
  const Inputs x = Random({2, 40, 4, 2, 16}, 5);
  CHECK_THROWS(Attention(x.q, x.k.narrow(2, 0, 30), x.v));
  CHECK_THROWS(Attention(x.q, x.k.narrow(2, 0, 30), x.v.narrow(2, 0, 30)));
  CHECK_THROWS(Attention(x.q.narrow(1, 0, 3), x.k, x.v));
  CHECK_THROWS(Attention(x.q.narrow(0, 0, 1), x.k, x.v));
}

TEST_CASE("Attention gives the same bits for any number of threads",
          "[model]") {
  const AttentionShape shape{3, 130, 4, 2, 16};
  const Inputs random = Random(shape, 2);
  const at::Tensor g = at::randn({3, 130, 64});
  const int before = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> found;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const Inputs x = Leaves(random, at::kFloat);
    const at::Tensor out = Attention(x.q, x.k, x.v);
    out.backward(g);
    found.push_back({out.detach(), x.q.grad(), x.k.grad(), x.v.grad()});
  }
  at::set_num_threads(before);
  for (size_t i = 0; i < found[0].size(); ++i) {
    CHECK(at::equal(found[0][i], found[1][i]));
    CHECK(at::equal(found[0][i], found[2][i]));
  }
}

TEST_CASE("Attention takes large scores and heads that are not contiguous",
          "[model]") {
  const AttentionShape shape{2, 40, 2, 2, 16};
  Inputs x = Random(shape, 3);
  x.q.mul_(100);
  const Inputs wide = {x.q.to(at::kDouble), x.k.to(at::kDouble),
                       x.v.to(at::kDouble)};
  const auto turned = [](const at::Tensor& t) {
    return t.transpose(1, 2).contiguous().transpose(1, 2);
  };
  const at::Tensor out = Attention(turned(x.q), turned(x.k), turned(x.v));
  CHECK(Difference(out, Formula(wide)) < 1e-3);
  CHECK(at::equal(out, Attention(x.q, x.k, x.v)));
}

TEST_CASE("Attention with a bias sees what it leaves open", "[model]") {
  const AttentionShape shape{2, 20, 4, 2, 16};
  const Inputs random = Random(shape, 6);
  const at::Tensor later = at::ones({20, 20}, at::kBool).triu(1);
  const at::Tensor causal =
      at::zeros({2, 1, 20, 20}).masked_fill_(later, -1e30);
  const Inputs x = Leaves(random, at::kFloat), y = Leaves(random, at::kFloat);
  const at::Tensor masked = Attention(x.q, x.k, x.v, causal);
  const at::Tensor out = Attention(y.q, y.k, y.v);
  CHECK(Difference(masked, out) < 1e-5);
  const at::Tensor g = at::randn(out.sizes());
  masked.backward(g);
  out.backward(g);
  CHECK(Difference(x.k.grad(), y.k.grad()) < 5e-5);
  // With nothing closed the first token sees the others.
  const at::Tensor all = Attention(x.q, x.k, x.v, at::zeros({2, 1, 20, 20}));
  CHECK(Difference(all.narrow(1, 0, 1), out.narrow(1, 0, 1)) > 1e-2);
  CHECK(Difference(all.narrow(1, 19, 1), out.narrow(1, 19, 1)) < 1e-5);
}

TEST_CASE("Attention of no sequences is empty", "[model]") {
  const at::Tensor none = at::ones({0, 2, 5, 16});
  CHECK(Attention(none, none, none).sizes() == at::IntArrayRef({0, 5, 32}));
}

}  // namespace
}  // namespace mpo::model
