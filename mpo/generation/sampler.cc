// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "mpo/tensor/counter_random.h"
#include "mpo/tensor/fast_exp.h"

namespace mpo::generation {
namespace {

using tensor::FastExp;

constexpr int64_t kBlock = 512;
// Its inverse is finite in float, and so are logits multiplied by it.
constexpr double kLeastTemperature = 1e-6;

struct Peak {
  float top;
  bool finite;
};

Peak FindPeak(const float* logits, int64_t size) {
  float top = -std::numeric_limits<float>::infinity();
  uint32_t bad = 0;
#pragma omp simd reduction(max : top) reduction(| : bad)
  for (int64_t i = 0; i < size; ++i) {
    // All exponent bits set = infinity or NaN.
    bad |= static_cast<uint32_t>(
        (std::bit_cast<uint32_t>(logits[i]) & 0x7f800000U) == 0x7f800000U);
    top = logits[i] > top ? logits[i] : top;
  }
  return {top, bad == 0};
}

float BlockSum(const float* logits, int64_t size, float top,
               float inverse_temperature) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i)
    sum += FastExp((logits[i] - top) * inverse_temperature);
  return sum;
}

// Natural log of the sum of exp(logit - top).
double LogSum(const float* logits, int64_t size, float top) {
  double sum = 0;
  for (int64_t at = 0; at < size; at += kBlock) {
    sum += BlockSum(logits + at, std::min(kBlock, size - at), top, 1.0F);
  }
  return std::log(sum);
}

int32_t ArgMax(const float* logits, int64_t size, float top) {
  return static_cast<int32_t>(std::find(logits, logits + size, top) - logits);
}

void DrawFromAll(Draw& draw, int64_t size, float top, float inverse,
                 std::vector<float>& sums) {
  sums.clear();
  double total = 0;
  for (int64_t at = 0; at < size; at += kBlock) {
    sums.push_back(
        BlockSum(draw.logits + at, std::min(kBlock, size - at), top, inverse));
    total += sums.back();
  }
  const double target = tensor::CounterUniform(draw.seed, draw.counter) * total;
  double below = 0;
  size_t block = 0;
  while (block + 1 < sums.size() && below + sums[block] <= target)
    below += sums[block++];
  const int64_t begin = static_cast<int64_t>(block) * kBlock;
  const int64_t end = std::min(size, begin + kBlock);
  // Rounding can leave the target above the last sum: the last possible token
  // of the block then takes it. The block of the top logit is never empty.
  int64_t chosen = -1;
  for (int64_t i = begin; i < end; ++i) {
    const float weight = FastExp((draw.logits[i] - top) * inverse);
    if (weight <= 0) continue;
    chosen = i;
    below += weight;
    if (below > target) break;
  }
  draw.token = chosen >= 0 ? static_cast<int32_t>(chosen)
                           : ArgMax(draw.logits, size, top);
  draw.logprob = static_cast<float>(
      double{draw.logits[draw.token] - top} * inverse - std::log(total));
}

// Logit below which min-p drops a token.
float MinPFloor(const SamplingOptions& options, float top, float inverse) {
  return options.min_p > 0
             ? top + static_cast<float>(std::log(options.min_p)) / inverse
             : -std::numeric_limits<float>::infinity();
}

// Tokens that may survive the filters, best first.
void Shortlist(const SamplingOptions& options, const float* logits,
               int64_t size, float top, float inverse,
               std::vector<int32_t>& tokens) {
  tokens.clear();
  const bool top_k = options.top_k > 0 && options.top_k < size;
  float floor = -std::numeric_limits<float>::infinity();
  if (!top_k) {
    // Tokens below (1 - top_p) / size of the total cannot matter: all of them
    // together weigh less than what top-p drops.
    double total = 0;
    for (int64_t at = 0; at < size; at += kBlock) {
      total += BlockSum(logits + at, std::min(kBlock, size - at), top, inverse);
    }
    const double least =
        (1.0 - options.top_p) / static_cast<double>(size) * total;
    if (least > 0) floor = top + static_cast<float>(std::log(least)) / inverse;
  }
  // With top-k the total that top-p refers to is that of the k, so min-p has to
  // wait.
  if (!top_k) floor = std::max(floor, MinPFloor(options, top, inverse));
  for (int64_t i = 0; i < size; ++i) {
    if (logits[i] >= floor) tokens.push_back(static_cast<int32_t>(i));
  }
  auto better = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  if (top_k && static_cast<int64_t>(tokens.size()) > options.top_k) {
    std::nth_element(tokens.begin(), tokens.begin() + options.top_k,
                     tokens.end(), better);
    tokens.resize(options.top_k);
  }
  std::sort(tokens.begin(), tokens.end(), better);
}

void DrawFiltered(const SamplingOptions& options, Draw& draw, int64_t size,
                  float top, float inverse, std::vector<int32_t>& tokens) {
  Shortlist(options, draw.logits, size, top, inverse, tokens);
  auto weight = [&](int32_t token) {
    return FastExp((draw.logits[token] - top) * inverse);
  };
  double total = 0;
  if (options.top_k > 0 && options.top_k < size) {
    for (int32_t token : tokens) total += weight(token);
  } else {
    for (int64_t at = 0; at < size; at += kBlock) {
      total +=
          BlockSum(draw.logits + at, std::min(kBlock, size - at), top, inverse);
    }
  }
  const float least = MinPFloor(options, top, inverse);
  double kept = 0;
  size_t count = 0;
  while (count < tokens.size() &&
         (count == 0 || (kept < options.top_p * total &&
                         draw.logits[tokens[count]] >= least))) {
    kept += weight(tokens[count++]);
  }
  const double target = tensor::CounterUniform(draw.seed, draw.counter) * kept;
  double below = 0;
  for (size_t i = 0; i < count; ++i) {
    const float w = weight(tokens[i]);
    if (w <= 0) break;
    draw.token = tokens[i];
    below += w;
    if (below > target) break;
  }
  draw.logprob = static_cast<float>(
      double{draw.logits[draw.token] - top} * inverse - std::log(kept));
}

}  // namespace

absl::Status Validate(const SamplingOptions& options) {
  auto bad = [](const char* name, const char* expected, double found) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sampling: ", name, ": expected ", expected, ", found ", found));
  };
  if (options.temperature != 0 && !(options.temperature >= kLeastTemperature &&
                                    options.temperature <= 10)) {
    return bad("temperature", "0 (greedy) or 1e-6 to 10", options.temperature);
  }
  if (options.top_k < 0) return bad("top_k", "0 or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return bad("top_p", "above 0, at most 1", options.top_p);
  }
  if (!(options.min_p >= 0 && options.min_p <= 1)) {
    return bad("min_p", "0 to 1", options.min_p);
  }
  if (!(options.repetition_penalty > 0 && options.repetition_penalty <= 10)) {
    return bad("repetition_penalty", "above 0, at most 10",
               options.repetition_penalty);
  }
  if (options.max_new_tokens < 1)
    return bad("max_new_tokens", "1 or more", options.max_new_tokens);
  if (options.min_new_tokens < 0 ||
      options.min_new_tokens > options.max_new_tokens) {
    return bad("min_new_tokens", "0 to max_new_tokens", options.min_new_tokens);
  }
  return absl::OkStatus();
}

namespace {

void SampleRow(int64_t vocabulary, Draw& draw, std::vector<float>& sums,
               std::vector<int32_t>& tokens) {
  const SamplingOptions& options = *draw.options;
  const bool greedy = options.temperature == 0;
  const bool filtered = (options.top_k > 0 && options.top_k < vocabulary) ||
                        options.top_p < 1 || options.min_p > 0;
  const float inverse =
      greedy ? 1.0F : static_cast<float>(1.0 / options.temperature);
  const Peak peak = FindPeak(draw.logits, vocabulary);
  draw.finite = peak.finite;
  if (!peak.finite) return;
  if (greedy) {
    draw.token = ArgMax(draw.logits, vocabulary, peak.top);
    draw.logprob = 0;
  } else if (filtered) {
    DrawFiltered(options, draw, vocabulary, peak.top, inverse, tokens);
  } else {
    DrawFromAll(draw, vocabulary, peak.top, inverse, sums);
  }
  const bool changed = draw.logits != draw.raw;
  if (!greedy && !filtered && !changed && options.temperature == 1.0) {
    draw.untempered = draw.logprob;
    return;
  }
  const float top = changed ? FindPeak(draw.raw, vocabulary).top : peak.top;
  draw.untempered = static_cast<float>(double{draw.raw[draw.token] - top} -
                                       LogSum(draw.raw, vocabulary, top));
}

}  // namespace

void SampleRows(int64_t vocabulary, Draw* draws, int rows, int threads) {
#pragma omp parallel num_threads(threads)
  {
    thread_local std::vector<float> sums;
    thread_local std::vector<int32_t> tokens;
#pragma omp for schedule(static)
    for (int i = 0; i < rows; ++i)
      SampleRow(vocabulary, draws[i], sums, tokens);
  }
}

void LogProbRows(int64_t vocabulary, Lookup* lookups, int rows, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int i = 0; i < rows; ++i) {
    Lookup& lookup = lookups[i];
    const Peak peak = FindPeak(lookup.logits, vocabulary);
    lookup.logprob = peak.finite
                         ? static_cast<float>(
                               double{lookup.logits[lookup.token] - peak.top} -
                               LogSum(lookup.logits, vocabulary, peak.top))
                         : std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace mpo::generation
