// SPDX-License-Identifier: Apache-2.0
#include "mpo/rubric/aggregate.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::rubric {
namespace {

// 1 = the best the criterion can be.
double ShareOf(const Criterion& criterion, double score) {
  const double share =
      (score - criterion.minimum) /
      static_cast<double>(criterion.maximum - criterion.minimum);
  return criterion.polarity == Polarity::kDeduct ? 1 - share : share;
}

bool Forbidden(const Criterion& criterion, double score) {
  const double share = ShareOf(criterion, score);
  return (criterion.mode == CriterionMode::kGate && share < 1) ||
         (criterion.mode == CriterionMode::kVeto && share <= 0);
}

// Sums over the criteria that are added, in both ways of counting.
struct Sums {
  double raw = 0;  // Points.
  double lowest = 0;
  double highest = 0;
  double shares = 0;
  double count = 0;
  double essential = 0;  // Weighted shares, by tier.
  double essential_weight = 0;
  double other = 0;
  double other_weight = 0;
};

void Add(const Criterion& criterion, double score, Sums& sums) {
  const double share = ShareOf(criterion, score);
  if (criterion.polarity == Polarity::kDeduct) {
    sums.raw -= score;
    sums.lowest -= criterion.maximum;
    sums.highest -= criterion.minimum;
  } else {
    sums.raw += score;
    sums.lowest += criterion.minimum;
    sums.highest += criterion.maximum;
  }
  sums.shares += share;
  sums.count += 1;
  if (criterion.tier == Tier::kEssential) {
    sums.essential += criterion.weight * share;
    sums.essential_weight += criterion.weight;
  } else {
    sums.other += criterion.weight * share;
    sums.other_weight += criterion.weight;
  }
}

double Weighted(const Sums& sums, double other_factor) {
  return (sums.essential + other_factor * sums.other) /
         (sums.essential_weight + sums.other_weight);
}

}  // namespace

absl::Status CheckSupported(const Rubric& rubric) {
  if (rubric.aggregation == Aggregation::kImplicit) {
    return absl::UnimplementedError(
        "aggregation implicit is not supported, expected raw_sum, "
        "normalised_mean, weighted, gated or saturating");
  }
  if (rubric.scale == RewardScale::kContinuity ||
      rubric.scale == RewardScale::kRunning) {
    return absl::UnimplementedError(
        "scale continuity and running are not supported, expected none or "
        "by_maximum");
  }
  return absl::OkStatus();
}

absl::StatusOr<Total> Aggregate(const Rubric& rubric,
                                const std::vector<CriterionScore>& scores) {
  MPO_RETURN_IF_ERROR(CheckSupported(rubric));
  if (scores.size() != rubric.criteria.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected ", rubric.criteria.size(), " scores, got ", scores.size()));
  }
  Sums sums;
  bool forbidden = false;
  for (size_t i = 0; i < scores.size(); ++i) {
    const Criterion& criterion = rubric.criteria[i];
    const double score = scores[i].score;
    if (scores[i].id != criterion.id || !std::isfinite(score) ||
        score < criterion.minimum || score > criterion.maximum) {
      return absl::InvalidArgumentError(absl::StrCat(
          "criterion ", criterion.id, ": expected its score within ",
          criterion.minimum, " and ", criterion.maximum, ", got ", score,
          " for ", scores[i].id));
    }
    forbidden = forbidden || Forbidden(criterion, score);
    if (criterion.mode == CriterionMode::kScore) Add(criterion, score, sums);
  }
  if (sums.count == 0) {
    return absl::InvalidArgumentError("no criterion of mode score");
  }
  Total total{.raw = sums.raw, .maximum = sums.highest};
  double lowest = sums.lowest;
  if (rubric.aggregation != Aggregation::kRawSum) {
    lowest = 0;
    total.maximum = 1;
    double factor = 1;
    if (rubric.aggregation == Aggregation::kSaturating &&
        sums.essential_weight > 0) {
      factor = sums.essential / sums.essential_weight;
    }
    total.raw = rubric.aggregation == Aggregation::kNormalisedMean
                    ? sums.shares / sums.count
                    : Weighted(sums, factor);
  }
  if (forbidden) total.raw = lowest;
  total.reward = total.raw;
  if (rubric.scale == RewardScale::kByMaximum) {
    if (total.maximum <= 0) {
      return absl::InvalidArgumentError(
          "scale by_maximum expects a largest total above 0");
    }
    total.reward = total.raw / total.maximum;
  }
  return total;
}

}  // namespace mpo::rubric
