// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace mpo::meta_reward_server {
namespace {

// Below this a sample counts as constant: rounding must not make a correlation.
constexpr double kNoSpread = 1e-9;

std::vector<double> Ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) {
      ++end;
    }
    const double rank =
        (static_cast<double>(begin) + static_cast<double>(end - 1)) / 2;
    for (; begin < end; ++begin) ranks[order[begin]] = rank;
  }
  return ranks;
}

}  // namespace

Moments MomentsOf(const std::vector<double>& values) {
  if (values.empty()) return {};
  const double n = static_cast<double>(values.size());
  Moments moments;
  moments.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) {
    squares += (value - moments.mean) * (value - moments.mean);
  }
  moments.deviation = std::sqrt(squares / n);
  return moments;
}

double Correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const Moments of_a = MomentsOf(a);
  const Moments of_b = MomentsOf(b);
  if (of_a.deviation < kNoSpread || of_b.deviation < kNoSpread) return 0;
  double product = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += (a[i] - of_a.mean) * (b[i] - of_b.mean);
  }
  return std::clamp(product / static_cast<double>(a.size()) /
                        (of_a.deviation * of_b.deviation),
                    -1.0, 1.0);
}

double RankCorrelation(const std::vector<double>& a,
                       const std::vector<double>& b) {
  return Correlation(Ranks(a), Ranks(b));
}

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t at =
      static_cast<size_t>(share * static_cast<double>(values.size()));
  return values[std::min(at, values.size() - 1)];
}

}  // namespace mpo::meta_reward_server
