// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "mpo/rl/moments.h"
#include "mpo/rl/popart.h"

namespace mpo::rl {
namespace {

TEST_CASE("Moments of parts are those of the whole", "[rl]") {
  torch::manual_seed(4);
  const at::Tensor x = 1000 + torch::randn({50});
  Moments parts;
  CHECK(parts.Deviation() == 0);
  parts = Merge(parts, x.narrow(0, 0, 1));
  CHECK(parts.Deviation() == 0);
  parts = Merge(parts, x.narrow(0, 1, 30));
  parts = Merge(parts, x.narrow(0, 31, 0));
  parts = Merge(parts, x.narrow(0, 31, 19));
  CHECK(parts.count == 50);
  const at::Tensor exact = x.to(at::kDouble);
  CHECK(parts.mean == Approx(exact.mean().item<double>()).epsilon(1e-12));
  CHECK(parts.Deviation() == Approx(exact.std().item<double>()).epsilon(1e-9));
  const at::Tensor normal = Normalise(exact, parts);
  CHECK(normal.mean().item<double>() == Approx(0).margin(1e-9));
  CHECK(normal.std().item<double>() == Approx(1).epsilon(1e-6));
  // The first value ever is its own mean.
  CHECK(Normalise(torch::tensor({7.F}), Merge({}, torch::tensor({7.F})))
            .item<float>() == 0);
}

TEST_CASE("PopArt changes the scale and keeps the predictions", "[rl]") {
  torch::manual_seed(5);
  const at::Tensor weight = torch::randn({6}), bias = torch::randn({1});
  const at::Tensor hidden = torch::randn({20, 6});
  const auto values = [&](const PopArt& s) {
    return Denormalise(at::mv(hidden, weight) + bias, s);
  };
  PopArt before;
  before.updates = 3;
  before.mean = 2;
  before.square = 8;  // Deviation 2.
  CHECK(before.Deviation() == Approx(2));
  const at::Tensor returns = 50 + 30 * torch::randn({100});
  const PopArt after = UpdateStatistics(before, returns, 0.5);
  CHECK(after.mean == Approx(1 + returns.mean().item<double>() / 2));
  CHECK(after.Deviation() > 20);
  const at::Tensor expected = values(before);
  PreserveOutputs(weight, bias, before, after);
  CHECK(at::allclose(values(after), expected, 1e-5, 1e-4));
  CHECK(at::allclose(NormaliseValues(Denormalise(hidden, after), after), hidden,
                     1e-5, 1e-5));
}

TEST_CASE("PopArt's first statistics are those of what it saw", "[rl]") {
  const PopArt none = UpdateStatistics({}, torch::zeros({0}), 0.1);
  CHECK(none == PopArt{});
  PopArt s = UpdateStatistics({}, torch::tensor({1.F, 3.F}), 0.001);
  CHECK(s.mean == Approx(2));
  CHECK(s.Deviation() == Approx(1));
  s = UpdateStatistics(s, torch::tensor({5.F, 7.F}), 0.001);
  CHECK(s.mean == Approx(4));
  CHECK(s.Deviation() == Approx(std::sqrt(5)));
  // Returns that never differ must not divide by 0.
  CHECK(UpdateStatistics({}, torch::tensor({4.F}), 1).Deviation() == 1e-4);
}

}  // namespace
}  // namespace mpo::rl
