// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/selective_logprob.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "mpo/rl/softmax_rows.h"

namespace mpo::rl {
namespace {

constexpr int64_t kRowBytes = 11 * sizeof(float);

struct Case {
  at::Tensor hidden, head, targets, temperatures;
};

Case MakeCase(bool train_head) {
  torch::manual_seed(3);
  Case c;
  c.hidden = torch::randn({7, 4}).requires_grad_(true);
  c.head = torch::randn({11, 4}).requires_grad_(train_head);
  c.targets = torch::randint(11, {7});
  c.temperatures = torch::rand({7}) + 0.5;
  return c;
}

// The plain formula, everything at once, by autograd.
TokenStatistics Plain(const Case& c) {
  const at::Tensor lp =
      (at::matmul(c.hidden, c.head.t()) / c.temperatures.unsqueeze(1))
          .log_softmax(1);
  return {lp.gather(1, c.targets.unsqueeze(1)).squeeze(1),
          -(lp.exp() * lp).sum(1)};
}

TEST_CASE("SelectiveLogprob equals the plain log-softmax for any chunk size",
          "[rl]") {
  const Case c = MakeCase(false);
  const TokenStatistics plain = Plain(c);
  for (int64_t rows : {1, 3, 7, 64}) {
    const TokenStatistics s = SelectiveLogprob(
        c.hidden, c.head, c.targets, c.temperatures, {rows * kRowBytes});
    CHECK(at::allclose(s.logprobs, plain.logprobs, 1e-5, 1e-6));
    CHECK(at::allclose(s.entropy, plain.entropy, 1e-5, 1e-6));
    CHECK_FALSE(s.entropy.requires_grad());
  }
}

TEST_CASE("SelectiveLogprob refuses targets it cannot look up", "[rl]") {
  Case c = MakeCase(false);
  const auto run = [&] {
    return SelectiveLogprob(c.hidden, c.head, c.targets, c.temperatures);
  };
  CHECK_NOTHROW(run());
  c.targets[3] = 11;
  CHECK_THROWS_WITH(run(), Catch::Contains("outside the vocabulary of 11"));
  c.targets = torch::zeros({6}, torch::kLong);
  CHECK_THROWS_WITH(run(), Catch::Contains("expected 7 int64 targets"));
}

TEST_CASE("SoftmaxRows stays finite for extreme logits and tells of NaN",
          "[rl]") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<float> logits = {1e4F,  -1e4F, 0,  //
                               -kInf, 2,     2,  //
                               1,     NAN,   2};
  const std::vector<int64_t> targets = {0, 1, 0};
  std::vector<float> logprobs(3), entropies(3), sums(3);
  SoftmaxRows(logits.data(), 3, 3, targets.data(), logprobs.data(),
              entropies.data(), sums.data(), 2);
  CHECK(logprobs[0] == 0);
  CHECK(entropies[0] == Approx(0).margin(1e-6));
  CHECK(logits[0] == 1);
  CHECK(logits[1] == 0);
  CHECK(logprobs[1] == Approx(std::log(0.5)));
  CHECK(entropies[1] == Approx(std::log(2.0)));
  CHECK(sums[1] == 2);
  CHECK(std::isnan(logprobs[2]));
  CHECK(std::isnan(entropies[2]));
}

TEST_CASE("SelectiveLogprob's gradients equal autograd's", "[rl]") {
  const bool train_head = GENERATE(false, true);
  const bool entropy_gradient = GENERATE(false, true);
  // Chunks of three rows, or one whose softmax is kept.
  const int64_t rows = GENERATE(3, 7);
  const auto gradients = [&](bool plain) {
    const Case c = MakeCase(train_head);
    const TokenStatistics s =
        plain ? Plain(c)
              : SelectiveLogprob(c.hidden, c.head, c.targets, c.temperatures,
                                 {rows * kRowBytes, entropy_gradient});
    const at::Tensor weights = torch::linspace(-1, 1, 7);
    at::Tensor loss = (s.logprobs * weights).sum();
    if (entropy_gradient) loss = loss + (s.entropy * weights.square()).sum();
    loss.backward();
    return std::pair(c.hidden.grad(), c.head.grad());
  };
  const auto [hidden, head] = gradients(false);
  const auto [hidden_plain, head_plain] = gradients(true);
  CHECK(at::allclose(hidden, hidden_plain, 1e-5, 1e-6));
  REQUIRE(head.defined() == train_head);
  if (train_head) CHECK(at::allclose(head, head_plain, 1e-5, 1e-6));
}

TEST_CASE("SelectiveLogprob of bfloat16 agrees with float32", "[rl]") {
  const bool entropy_gradient = GENERATE(false, true);
  const int64_t rows = GENERATE(3, 7);
  const auto run = [&](at::ScalarType dtype) {
    const Case c = MakeCase(true);
    const TokenStatistics s = SelectiveLogprob(
        c.hidden.to(dtype), c.head.to(dtype), c.targets, c.temperatures,
        {rows * 11 * static_cast<int64_t>(c10::elementSize(dtype)),
         entropy_gradient});
    CHECK(s.logprobs.scalar_type() == at::kFloat);
    at::Tensor loss = (s.logprobs * torch::linspace(-1, 1, 7)).sum();
    if (entropy_gradient) loss = loss + s.entropy.sum();
    loss.backward();
    return std::vector<at::Tensor>{s.logprobs.detach(), s.entropy.detach(),
                                   c.hidden.grad(), c.head.grad()};
  };
  const auto exact = run(at::kFloat), rounded = run(at::kBFloat16);
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO(i);
    CHECK(at::allclose(exact[i], rounded[i], 0.05, 0.05));
    CHECK_FALSE(at::equal(exact[i], rounded[i]));
  }
}

TEST_CASE("SelectiveLogprob's gradient agrees with finite differences",
          "[rl]") {
  // Central differences with h = 1e-2 err by O(h^2) ~ 1e-4 plus float32 noise
  // of 1e-7 / h ~ 1e-5.
  Case c = MakeCase(false);
  const SelectiveLogprobOptions options{3 * kRowBytes, true};
  const auto value = [&](const at::Tensor& hidden) {
    const TokenStatistics s =
        SelectiveLogprob(hidden, c.head, c.targets, c.temperatures, options);
    return s.logprobs.sum() + 0.5 * s.entropy.sum();
  };
  value(c.hidden).backward();
  at::NoGradGuard no_grad;
  for (int64_t i = 0; i < 7; ++i) {
    at::Tensor step = torch::zeros({7, 4});
    step[i][i % 4] = 1e-2;
    const double slope =
        (value(c.hidden + step) - value(c.hidden - step)).item<double>() / 2e-2;
    CHECK(c.hidden.grad()[i][i % 4].item<double>() ==
          Approx(slope).margin(2e-3));
  }
}

TEST_CASE("SelectiveLogprob of a uniform softmax has the largest entropy",
          "[rl]") {
  const TokenStatistics s =
      SelectiveLogprob(torch::zeros({2, 4}), torch::randn({8, 4}),
                       torch::zeros({2}, torch::kLong), torch::ones({2}));
  CHECK(s.entropy[0].item<double>() == Approx(std::log(8.0)));
  CHECK(s.logprobs[1].item<double>() == Approx(-std::log(8.0)));
}

}  // namespace
}  // namespace mpo::rl
