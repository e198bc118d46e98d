// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/sampler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "mpo/tensor/fast_exp.h"

namespace mpo::generation {
namespace {

constexpr int kVocabulary = 1500;  // Three blocks, the last one partial.

std::vector<float> Logits() {
  std::vector<float> logits(kVocabulary);
  for (int i = 0; i < kVocabulary; ++i)
    logits[i] = 6.0F * std::sin(0.37F * i) - (i % 7);
  return logits;
}

std::vector<double> Probabilities(const std::vector<float>& logits,
                                  double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (float logit : logits)
    sum += p.emplace_back(std::exp(logit / temperature));
  for (double& value : p) value /= sum;
  return p;
}

std::vector<Draw> DrawMany(const std::vector<float>& logits,
                           const SamplingOptions& options, int count) {
  std::vector<Draw> draws(count);
  for (int i = 0; i < count; ++i) {
    draws[i].raw = draws[i].logits = logits.data();
    draws[i].options = &options;
    draws[i].seed = static_cast<uint64_t>(i);
    draws[i].counter = static_cast<uint64_t>(i % 13);
  }
  SampleRows(kVocabulary, draws.data(), count, 2);
  return draws;
}

TEST_CASE("FastExp is exact to 3e-7 and 0 where e^x vanishes", "[sampler]") {
  for (float x = -86.5F; x < 87.5F; x += 0.0137F) {
    CHECK(tensor::FastExp(x) == Approx(std::exp(double{x})).epsilon(3e-7));
  }
  CHECK(tensor::FastExp(-88.0F) == 0.0F);
  CHECK(tensor::FastExp(0.0F) == 1.0F);
}

TEST_CASE("draws follow the tempered softmax and carry its log-probs",
          "[sampler]") {
  const auto logits = Logits();
  constexpr int kDraws = 20000;
  for (double temperature : {1.0, 0.5, 2.0}) {
    const auto p = Probabilities(logits, temperature);
    const auto plain = Probabilities(logits, 1.0);
    std::vector<int> counts(kVocabulary);
    for (const Draw& draw :
         DrawMany(logits, {.temperature = temperature}, kDraws)) {
      REQUIRE(draw.finite);
      ++counts[draw.token];
      CHECK(draw.logprob == Approx(std::log(p[draw.token])).margin(1e-4));
      CHECK(draw.untempered ==
            Approx(std::log(plain[draw.token])).margin(1e-4));
    }
    // Five standard deviations of a binomial count.
    for (int i = 0; i < kVocabulary; ++i) {
      CHECK(std::abs(counts[i] - kDraws * p[i]) <
            5 * std::sqrt(kDraws * p[i]) + 5);
    }
  }
}

TEST_CASE("top-k keeps the best k and renormalises", "[sampler]") {
  const auto logits = Logits();
  const auto p = Probabilities(logits, 0.8);
  std::multimap<double, int, std::greater<>> order;
  for (int i = 0; i < kVocabulary; ++i) order.emplace(p[i], i);
  double kept = 0;
  std::map<int, double> best;
  for (auto it = order.begin(); best.size() < 5; ++it) {
    best[it->second] = it->first;
    kept += it->first;
  }
  for (const Draw& draw :
       DrawMany(logits, {.temperature = 0.8, .top_k = 5}, 500)) {
    REQUIRE(best.count(draw.token) == 1);
    CHECK(draw.logprob ==
          Approx(std::log(best[draw.token] / kept)).margin(1e-4));
  }
}

TEST_CASE("top-p keeps the smallest set that reaches p", "[sampler]") {
  const auto logits = Logits();
  const auto p = Probabilities(logits, 1.0);
  std::multimap<double, int, std::greater<>> order;
  for (int i = 0; i < kVocabulary; ++i) order.emplace(p[i], i);
  for (double top_p : {0.3, 0.9, 1e-9}) {
    double kept = 0;
    std::map<int, double> best;
    for (auto it = order.begin(); kept < top_p; ++it) {
      best[it->second] = it->first;
      kept += it->first;
    }
    for (const Draw& draw :
         DrawMany(logits, {.temperature = 1, .top_p = top_p}, 500)) {
      REQUIRE(best.count(draw.token) == 1);
      CHECK(draw.logprob ==
            Approx(std::log(best[draw.token] / kept)).margin(1e-4));
    }
  }
}

TEST_CASE(
    "min-p keeps what is at least a share of the likeliest, after top-k "
    "and top-p",
    "[sampler]") {
  const auto logits = Logits();
  const auto p = Probabilities(logits, 0.7);
  const double likeliest = *std::max_element(p.begin(), p.end());
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 0.7, .min_p = 0.2},
        SamplingOptions{.temperature = 0.7, .top_k = 3, .min_p = 0.01},
        SamplingOptions{.temperature = 0.7, .top_k = 40, .min_p = 0.2},
        SamplingOptions{.temperature = 0.7, .top_p = 0.95, .min_p = 0.2}}) {
    std::multimap<double, int, std::greater<>> order;
    for (int i = 0; i < kVocabulary; ++i) order.emplace(p[i], i);
    double total = 0;
    int place = 0;
    for (const auto& [probability, token] : order) {
      if (options.top_k > 0 && ++place > options.top_k) break;
      total += probability;
    }
    double reached = 0, kept = 0;
    std::map<int, double> best;
    place = 0;
    for (const auto& [probability, token] : order) {
      if (options.top_k > 0 && ++place > options.top_k) break;
      if (reached >= options.top_p * total) break;
      reached += probability;
      if (probability < options.min_p * likeliest) continue;
      best[token] = probability;
      kept += probability;
    }
    REQUIRE(best.size() > 1);
    for (const Draw& draw : DrawMany(logits, options, 300)) {
      REQUIRE(best.count(draw.token) == 1);
      CHECK(draw.logprob ==
            Approx(std::log(best[draw.token] / kept)).margin(1e-4));
    }
  }
}

TEST_CASE("a draw from changed logits keeps the model's own log-prob",
          "[sampler]") {
  const auto raw = Logits();
  auto changed = raw;
  changed[11] += 9;
  SamplingOptions options{.temperature = 1};
  Draw draw{.raw = raw.data(), .logits = changed.data(), .options = &options};
  SampleRows(kVocabulary, &draw, 1, 1);
  CHECK(draw.logprob ==
        Approx(std::log(Probabilities(changed, 1)[draw.token])).margin(1e-4));
  CHECK(draw.untempered ==
        Approx(std::log(Probabilities(raw, 1)[draw.token])).margin(1e-4));
}

TEST_CASE("greedy takes the first of the largest, with log-prob 0",
          "[sampler]") {
  std::vector<float> logits(kVocabulary, 1.0F);
  logits[700] = logits[900] = 3.0F;
  const Draw draw = DrawMany(logits, {.temperature = 0}, 1)[0];
  CHECK(draw.token == 700);
  CHECK(draw.logprob == 0);
  CHECK(draw.untempered ==
        Approx(std::log(Probabilities(logits, 1.0)[700])).margin(1e-5));
}

TEST_CASE("logits that are not finite are found in any place", "[sampler]") {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                    std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (int place : {0, 513, kVocabulary - 1}) {
      auto logits = Logits();
      logits[place] = bad;
      CHECK(!DrawMany(logits, {.temperature = 1}, 1)[0].finite);
      Lookup lookup{.logits = logits.data(), .token = 3};
      LogProbRows(kVocabulary, &lookup, 1, 1);
      CHECK(std::isnan(lookup.logprob));
    }
  }
}

TEST_CASE("a token of no probability is never drawn", "[sampler]") {
  std::vector<float> logits(kVocabulary, -200.0F);
  logits[1234] = 0.0F;
  for (const Draw& draw : DrawMany(logits, {.temperature = 1}, 200))
    CHECK(draw.token == 1234);
}

TEST_CASE("the lowest temperature draws the best token with a finite log-prob",
          "[sampler]") {
  const auto logits = Logits();
  const SamplingOptions plain{.temperature = 1e-6};
  const SamplingOptions filtered{.temperature = 1e-6, .top_p = 0.9};
  const SamplingOptions best{.temperature = 1e-6, .top_k = 3, .min_p = 0.1};
  for (const SamplingOptions& options : {plain, filtered, best}) {
    for (const Draw& draw : DrawMany(logits, options, 20)) {
      CHECK(logits[draw.token] ==
            *std::max_element(logits.begin(), logits.end()));
      CHECK(std::isfinite(draw.logprob));
      CHECK(std::isfinite(draw.untempered));
    }
  }
}

TEST_CASE("sampling options out of range are refused by name", "[sampler]") {
  auto refused = [](SamplingOptions options, const char* name) {
    const auto status = Validate(options);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(std::string(status.message()), Catch::Contains(name));
  };
  CHECK(Validate(SamplingOptions{}).ok());
  refused({.temperature = -0.1}, "temperature");
  refused({.temperature = std::nan("")}, "temperature");
  refused({.temperature = 1e-40}, "temperature");  // 1 / it is infinite.
  refused({.temperature = 0.9e-6}, "temperature");
  CHECK(Validate(SamplingOptions{.temperature = 0}).ok());
  CHECK(Validate(SamplingOptions{.temperature = 1e-6}).ok());
  refused({.top_k = -1}, "top_k");
  refused({.top_p = 0}, "top_p");
  refused({.top_p = 1.1}, "top_p");
  refused({.max_new_tokens = 0}, "max_new_tokens");
}

}  // namespace
}  // namespace mpo::generation
