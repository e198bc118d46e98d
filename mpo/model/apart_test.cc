// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/apart.h"

#include <torch/torch.h>

#include <array>
#include <catch2/catch.hpp>
#include <stdexcept>

namespace mpo::model {
namespace {

const std::vector<int64_t> kBegins = {0, 3, 4, 9};

at::Tensor Leaf(at::IntArrayRef sizes) {
  return at::randn(sizes).set_requires_grad(true);
}

TEST_CASE("parts of a batch give the whole batch's results and gradients",
          "[apart]") {
  at::manual_seed(1);
  const at::Tensor weight = Leaf({5, 4}), bias = Leaf({4}), unused = Leaf({2});
  for (const bool input_grad : {true, false}) {
    const at::Tensor input = at::randn({9, 5}).set_requires_grad(input_grad);
    const auto formula = [&](const at::Tensor& x) {
      return at::tanh(x.mm(weight) + bias);
    };
    const at::Tensor whole = formula(input);
    const at::Tensor apart =
        RunApart([&](size_t, const at::Tensor& x) { return formula(x); },
                 kBegins, input, {weight, bias, unused});
    CHECK(at::allclose(apart, whole));

    std::vector<at::Tensor> sources = {weight, bias, unused};
    if (input_grad) sources.push_back(input);
    const at::Tensor g = at::randn({9, 4});
    const auto expected =
        torch::autograd::grad({whole}, sources, {g}, false, false, true);
    const auto found =
        torch::autograd::grad({apart}, sources, {g}, false, false, true);
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK(found[i].defined() == expected[i].defined());
      if (found[i].defined()) CHECK(at::allclose(found[i], expected[i]));
    }
  }
}

TEST_CASE("each part is run once with its rows, and may become any number",
          "[apart]") {
  at::NoGradGuard no_grad;
  const at::Tensor input = at::arange(9, at::kFloat);
  std::array<int64_t, 3> rows = {}, runs = {}, with_grad = {};
  const at::Tensor out = RunApart(
      [&](size_t part, const at::Tensor& x) {
        ++runs[part];
        rows[part] = x.size(0);
        with_grad[part] = at::GradMode::is_enabled() ? 1 : 0;
        return x.narrow(0, 0, static_cast<int64_t>(part));  // 0, 1 and 2 rows.
      },
      kBegins, input, {});
  CHECK(runs == std::array<int64_t, 3>{1, 1, 1});
  CHECK(rows == std::array<int64_t, 3>{3, 1, 5});
  CHECK(with_grad == std::array<int64_t, 3>{});
  CHECK(at::equal(out, at::tensor({3.0F, 4.0F, 5.0F})));
  CHECK(!out.requires_grad());
}

TEST_CASE("an exception of a part reaches the caller", "[apart]") {
  const at::Tensor input = Leaf({9, 2});
  for (const bool grad : {true, false}) {
    at::AutoGradMode mode(grad);
    CHECK_THROWS_WITH(RunApart(
                          [](size_t part, const at::Tensor& x) -> at::Tensor {
                            if (part == 1)
                              throw std::runtime_error("part 1 failed");
                            return x * 2;
                          },
                          kBegins, input, {}),
                      "part 1 failed");
  }
}

TEST_CASE("the backward pass of parts runs once", "[apart]") {
  const at::Tensor weight = Leaf({2});
  const at::Tensor out =
      RunApart([&](size_t, const at::Tensor& x) { return x * weight; }, kBegins,
               at::ones({9, 2}), {weight});
  const at::Tensor sum = out.sum();
  sum.backward({}, /*keep_graph=*/true);
  CHECK(at::allclose(weight.grad(), at::full({2}, 9.0F)));
  CHECK_THROWS(sum.backward());
}

TEST_CASE("parts run the same bits twice", "[apart]") {
  at::manual_seed(2);
  const at::Tensor weight = Leaf({64, 64});
  const at::Tensor input = at::randn({300, 64});
  const auto gradient = [&] {
    const at::Tensor out = RunApart(
        [&](size_t, const at::Tensor& x) { return x.mm(weight).square(); },
        {0, 100, 200, 300}, input, {weight});
    return torch::autograd::grad({out.sum()}, {weight})[0];
  };
  CHECK(at::equal(gradient(), gradient()));
}

}  // namespace
}  // namespace mpo::model
