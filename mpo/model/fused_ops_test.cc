// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/fused_ops.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "mpo/model/fused_loops.h"
#include "mpo/tensor/products.h"

namespace mpo::model {
namespace {

at::Tensor Values(at::IntArrayRef sizes, double phase, bool grad = true) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  at::Tensor x = (at::arange(count, at::kDouble) * 0.7 + phase)
                     .sin()
                     .mul_(1.5)
                     .to(at::kFloat)
                     .view(sizes)
                     .clone();
  return x.set_requires_grad(grad);
}

// Same values and same gradients of every input, float32 against the formula
// in LibTorch's operations in double.
void CheckSame(
    const std::vector<at::Tensor>& inputs,
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& fused,
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& plain) {
  std::vector<at::Tensor> wide;
  for (const at::Tensor& x : inputs) {
    wide.push_back(x.detach()
                       .to(at::kDouble)
                       .clone()
                       .set_requires_grad(x.requires_grad()));
  }
  const at::Tensor out = fused(inputs);
  const at::Tensor expected = plain(wide);
  REQUIRE(out.sizes() == expected.sizes());
  CHECK(at::allclose(out.to(at::kDouble), expected, 1e-5, 1e-5));
  const at::Tensor g = Values(out.sizes(), 0.3, false);
  out.backward(g);
  expected.backward(g.to(at::kDouble));
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO("input " << i);
    if (!inputs[i].requires_grad()) {
      CHECK(!inputs[i].grad().defined());
      continue;
    }
    REQUIRE(inputs[i].grad().defined());
    CHECK(at::allclose(inputs[i].grad().to(at::kDouble), wide[i].grad(), 1e-4,
                       1e-5));
  }
}

TEST_CASE("RmsNorm has the values and gradients of its formula", "[model]") {
  const bool weight_grad = GENERATE(true, false);
  CheckSame(
      {Values({2, 5, 37}, 0.1), Values({37}, 2, weight_grad)},
      [](const auto& in) { return RmsNorm(in[0], in[1], 1e-5); },
      [](const auto& in) {
        return in[0] * at::rsqrt(in[0].square().mean(-1, true).add(1e-5)) *
               in[1];
      });
}

TEST_CASE("SiluMul has the values and gradients of its formula", "[model]") {
  CheckSame(
      {Values({3, 4, 2 * 19}, 0.1)},
      [](const auto& in) { return SiluMul(in[0]); },
      [](const auto& in) {
        return at::silu(in[0].narrow(-1, 0, 19)) * in[0].narrow(-1, 19, 19);
      });
}

TEST_CASE("AdaptedLinear has the values and gradients of its formula",
          "[model]") {
  const bool input_grad = GENERATE(true, false);
  const bool weight_grad = GENERATE(true, false);
  CheckSame(
      {Values({2, 3, 11}, 0.1, input_grad), Values({12, 11}, 1, weight_grad),
       Values({12}, 2, weight_grad), Values({2, 11}, 3), Values({5, 2}, 4),
       Values({3, 11}, 5), Values({4, 3}, 6)},
      [](const auto& in) {
        return AdaptedLinear(in[0], in[1], in[2],
                             {{in[3], in[4], 0}, {in[5], in[6], 8}}, 0.5);
      },
      [](const auto& in) {
        const at::Tensor low = in[0].matmul(in[3].t()).matmul(in[4].t());
        const at::Tensor high = in[0].matmul(in[5].t()).matmul(in[6].t());
        return at::linear(in[0], in[1], in[2]) +
               0.5 * at::cat({low, at::zeros({2, 3, 3}, low.options()), high},
                             -1);
      });
}

TEST_CASE("AdaptedLinear adds a product beyond the cache to the adapters'",
          "[model]") {
  const int64_t rank = GENERATE(3, 70);  // Of loops, and of general products.
  at::manual_seed(6);
  std::vector<at::Tensor> inputs, wide;
  for (const std::vector<int64_t>& sizes : std::vector<std::vector<int64_t>>{
           {701, 200}, {200, 200}, {rank, 200}, {150, rank}, {2, 200}, {50, 2}})
    wide.push_back(at::randn(sizes, at::kDouble) / 14);
  for (const at::Tensor& x : wide) {
    inputs.push_back(x.to(at::kFloat).set_requires_grad(true));
    x.copy_(inputs.back().detach()).set_requires_grad(true);
  }
  const auto run = [](const std::vector<at::Tensor>& in) {
    return AdaptedLinear(in[0], in[1], {},
                         {{in[2], in[3], 0}, {in[4], in[5], 150}}, 0.5);
  };
  const auto formula = [](const std::vector<at::Tensor>& in) {
    return in[0].mm(in[1].t()) +
           0.5 * at::cat({in[0].mm(in[2].t()).mm(in[3].t()),
                          in[0].mm(in[4].t()).mm(in[5].t())},
                         1);
  };
  const at::Tensor out = run(inputs), expected = formula(wide);
  const at::Tensor g = at::randn({701, 200});
  std::vector<at::Tensor> found = torch::autograd::grad({out}, inputs, {g});
  std::vector<at::Tensor> correct =
      torch::autograd::grad({expected}, wide, {g.to(at::kDouble)});
  found.push_back(out.detach());
  correct.push_back(expected.detach());
  for (size_t i = 0; i < found.size(); ++i) {
    INFO("input " << i);
    CHECK((found[i] - correct[i]).abs().max().item<double>() <
          1e-5 * correct[i].abs().max().item<double>());
  }
}

TEST_CASE("AdaptedLinear with packed weights has the same bits", "[model]") {
  // Inputs and outputs beyond a core's cache, and within it.
  const int64_t rows = GENERATE(100, 800);
  const at::Tensor w = Values({320, 192}, 0.2, false);
  const std::vector<LinearAdapter> adapters = {
      {Values({4, 192}, 0.3), Values({320, 4}, 0.4), 0}};
  const auto run = [&](const PackedWeight& packed) {
    const at::Tensor x = Values({1, rows, 192}, 0.1);
    const at::Tensor y = AdaptedLinear(x, w, {}, adapters, 0.5, packed);
    y.backward(Values(y.sizes(), 0.7, false));
    return std::vector<at::Tensor>{y.detach(), x.grad()};
  };
  const auto plain = run({});
  const PackedWeight both = {tensor::Packed(w.t()), tensor::Packed(w)};
  CHECK(both.transposed.defined() == both.plain.defined());
  const auto packed = run(both);
  CHECK(at::equal(plain[0], packed[0]));
  CHECK(at::equal(plain[1], packed[1]));
}

TEST_CASE("AdaptedLinear without adapters or bias is a matrix product",
          "[model]") {
  CheckSame(
      {Values({4, 6}, 0.1), Values({5, 6}, 1)},
      [](const auto& in) { return AdaptedLinear(in[0], in[1], {}, {}, 1); },
      [](const auto& in) { return in[0].matmul(in[1].t()); });
}

TEST_CASE("RotateHeads turns, splits and repeats, and sums its gradients",
          "[model]") {
  const bool turned = GENERATE(true, false);
  const int64_t repeat = GENERATE(1, 3);
  const at::Tensor angles =
      at::arange(2 * 5 * 4, at::kFloat).view({2, 5, 4}) * 0.37;
  const Rotary rotary{angles.cos(), angles.sin()};
  CheckSame(
      // A part of wider rows, as queries are of q, k and v.
      {Values({2, 5, 30}, 0.1)},
      [&](const auto& in) {
        return RotateHeads(in[0].narrow(-1, 3, 24), 8, repeat,
                           turned ? &rotary : nullptr);
      },
      [&](const auto& in) {
        at::Tensor x = in[0].narrow(-1, 3, 24).reshape({2, 5, 3, 8});
        if (turned) {
          const at::Tensor c = rotary.cos.to(at::kDouble).unsqueeze(2);
          const at::Tensor s = rotary.sin.to(at::kDouble).unsqueeze(2);
          const at::Tensor a = x.narrow(-1, 0, 4);
          const at::Tensor b = x.narrow(-1, 4, 4);
          x = at::cat({a * c - b * s, b * c + a * s}, -1);
        }
        return x.transpose(1, 2).repeat_interleave(repeat, 1);
      });
}

TEST_CASE("the fused loops give the same bits for any number of threads",
          "[model]") {
  const int before = at::get_num_threads();
  const at::Tensor x = Values({3, 257, 192}, 0.1, false);
  const at::Tensor w = Values({192}, 1, false);
  const at::Tensor angles = Values({3, 257, 8}, 0.2, false);
  const Rotary rotary{angles.cos(), angles.sin()};
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    std::vector<at::Tensor> out;
    const auto keep = [&](const std::function<at::Tensor(at::Tensor)>& piece) {
      const at::Tensor input = x.clone().set_requires_grad(true);
      const at::Tensor y = piece(input);
      y.backward(y.detach() * 0.5 + 0.1);
      out.push_back(y.detach());
      out.push_back(input.grad());
    };
    keep([&](const at::Tensor& in) { return RmsNorm(in, w, 1e-5); });
    keep([](const at::Tensor& in) { return SiluMul(in); });
    keep([&](const at::Tensor& in) { return RotateHeads(in, 16, 2, &rotary); });
    return out;
  };
  const auto one = run(1);
  const auto two = run(2);
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) {
    INFO(i);
    CHECK(at::equal(one[i], two[i]));
  }
}

TEST_CASE("LowRankLoop is a product for any sizes and reads no output",
          "[model]") {
  for (const int64_t rows : {0, 1, 4, 7, 64}) {
    for (const int64_t rank : {1, 4, 5, 16}) {
      for (const int64_t width : {1, 37, 600}) {
        const at::Tensor low = Values({rows, rank + 3}, 0.2, false);
        const at::Tensor b = Values({rank, width}, 0.4, false);
        const at::Tensor out = at::full({rows, width + 2}, NAN);
        LowRankLoop(low.const_data_ptr<float>(), rank + 3,
                    b.const_data_ptr<float>(), rows, rank, width, 0.5F,
                    out.mutable_data_ptr<float>(), width + 2, 2);
        CHECK(at::allclose(out.narrow(1, 0, width),
                           low.narrow(1, 0, rank).mm(b) * 0.5, 1e-5, 1e-5));
        CHECK(out.narrow(1, width, 2).isnan().all().item<bool>());
      }
    }
  }
}

TEST_CASE("RotateHeads takes one row of any layout and tables that broadcast",
          "[model]") {
  const at::Tensor angles = Values({1, 4, 4}, 0.2, false);
  const Rotary rotary{angles.cos(), angles.sin()};
  const at::Tensor x = Values({2, 4, 24}, 0.1, false);
  const at::Tensor whole = RotateHeads(x, 8, 1, &rotary);
  CHECK(
      at::allclose(whole[1], RotateHeads(x.narrow(0, 1, 1), 8, 1, &rotary)[0]));
  const at::Tensor turned = Values({1, 5, 24}, 0.1, false).transpose(0, 1);
  CHECK(at::equal(RotateHeads(turned, 8, 1, nullptr),
                  RotateHeads(turned.clone(), 8, 1, nullptr)));
}

TEST_CASE("the fused pieces agree with themselves in half precision",
          "[model]") {
  const at::NoGradGuard no_grad;
  const auto half = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  const auto close = [](const at::Tensor& a, const at::Tensor& b) {
    return at::allclose(a.to(at::kFloat), b, 5e-2, 5e-2);
  };
  const at::Tensor x = Values({2, 3, 8}, 0.1);
  const at::Tensor w = Values({6, 8}, 1);
  const at::Tensor norm = Values({8}, 2);
  CHECK(close(RmsNorm(half(x), half(norm), 1e-5), RmsNorm(x, norm, 1e-5)));
  CHECK(close(SiluMul(half(x)), SiluMul(x)));
  const std::vector<LinearAdapter> adapters = {
      {Values({2, 8}, 3), Values({4, 2}, 4), 1}};
  CHECK(close(AdaptedLinear(half(x), half(w), {}, adapters, 0.1),
              AdaptedLinear(x, w, {}, adapters, 0.1)));
  const at::Tensor angles = at::arange(12, at::kFloat).view({2, 3, 2});
  const Rotary rotary{angles.cos(), angles.sin()};
  CHECK(close(RotateHeads(half(x), 4, 2, &rotary),
              RotateHeads(x, 4, 2, &rotary)));
}

}  // namespace
}  // namespace mpo::model
