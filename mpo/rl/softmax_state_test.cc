// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/softmax_state.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "mpo/rl/softmax_rows.h"

namespace mpo::rl {
namespace {

// As the kernel has it: every one of `threads` reads a share of the row, then
// the shares are merged by pairs.
SoftmaxState Read(const std::vector<float>& row, size_t threads) {
  std::vector<SoftmaxState> parts(threads);
  for (size_t i = 0; i < row.size(); ++i)
    parts[i % threads] = Add(parts[i % threads], row[i]);
  for (size_t step = threads / 2; step > 0; step /= 2) {
    for (size_t i = 0; i < step; ++i)
      parts[i] = Merge(parts[i], parts[i + step]);
  }
  return parts[0];
}

TEST_CASE("A softmax read in parts equals one read as a whole", "[rl]") {
  std::mt19937 random(5);
  for (const float spread : {0.1F, 3.0F, 40.0F}) {
    std::normal_distribution<float> draw(-2, spread);
    std::vector<float> row(1001);
    for (float& logit : row) logit = draw(random);
    std::vector<float> whole = row;
    const int64_t target = 17;
    float logprob = 0, entropy = 0, sum = 0;
    SoftmaxRows(whole.data(), 1, static_cast<int64_t>(row.size()), &target,
                &logprob, &entropy, &sum, 1);
    for (const size_t threads : {1, 2, 64, 2048}) {
      const SoftmaxState state = Read(row, threads);
      CHECK(state.sum == Approx(sum).epsilon(1e-5));
      CHECK(LogProb(state, row[17]) == Approx(logprob).epsilon(1e-5));
      CHECK(Entropy(state) == Approx(entropy).epsilon(1e-4).margin(1e-5));
    }
  }
}

TEST_CASE("Logits of -inf take no part in a softmax", "[rl]") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const SoftmaxState state = Read({-kInf, 2, -kInf, 2, -kInf}, 4);
  CHECK(state.sum == 2);
  CHECK(Entropy(state) == Approx(std::log(2.0)));
  CHECK(LogProb(state, 2) == Approx(-std::log(2.0)));
  CHECK(LogProb(state, -kInf) == -kInf);
}

TEST_CASE("Logits far below the largest leave the entropy a number", "[rl]") {
  const SoftmaxState state = Read({1e4F, -1e4F, 0}, 2);
  CHECK(state.sum == 1);
  CHECK(Entropy(state) == 0);
  const float huge = std::numeric_limits<float>::max();
  CHECK(Entropy(Read({huge, -huge}, 2)) == 0);
}

TEST_CASE("A logit that is not a number shows in the softmax", "[rl]") {
  const SoftmaxState state = Read({1, std::nanf(""), 2, 3}, 2);
  CHECK(std::isnan(LogProb(state, 1)));
  CHECK(std::isnan(Entropy(state)));
}

}  // namespace
}  // namespace mpo::rl
