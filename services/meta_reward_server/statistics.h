// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace mpo::meta_reward_server {

// Population statistics of small samples. All are pure functions; an empty
// sample has mean and deviation 0.
struct Moments {
  double mean = 0;
  double deviation = 0;  // Of the population.
};
Moments MomentsOf(const std::vector<double>& values);

// Pearson's correlation, -1..1; 0 where either side does not vary. The vectors
// must be of one length.
double Correlation(const std::vector<double>& a, const std::vector<double>& b);

// Spearman's: correlation of the ranks, ties sharing their mean rank.
double RankCorrelation(const std::vector<double>& a,
                       const std::vector<double>& b);

// The value below which `share` (0..1) of the sample lies: sorted[share * n].
// 0 for an empty sample.
double Quantile(std::vector<double> values, double share);

}  // namespace mpo::meta_reward_server
