// SPDX-License-Identifier: Apache-2.0
#include "mpo/rubric/aggregate.h"

#include <catch2/catch.hpp>

namespace mpo::rubric {
namespace {

Criterion Make(const std::string& id, int minimum, int maximum,
               double weight = 1) {
  Criterion criterion;
  criterion.id = id;
  criterion.minimum = minimum;
  criterion.maximum = maximum;
  criterion.weight = weight;
  return criterion;
}

CriterionScore Score(const std::string& id, double score) {
  CriterionScore one;
  one.id = id;
  one.score = score;
  return one;
}

// a: 0..5 weight 1, b: 1..3 weight 3; scores 4 and 2, shares 0.8 and 0.5.
Rubric Two(Aggregation aggregation, RewardScale scale = RewardScale::kNone) {
  Rubric rubric;
  rubric.aggregation = aggregation;
  rubric.scale = scale;
  rubric.criteria = {Make("a", 0, 5), Make("b", 1, 3, 3)};
  return rubric;
}
const std::vector<CriterionScore> kScores = {Score("a", 4), Score("b", 2)};

}  // namespace

TEST_CASE("Aggregate adds raw points and scales by the maximum", "[rubric]") {
  const auto total =
      Aggregate(Two(Aggregation::kRawSum, RewardScale::kByMaximum), kScores);
  REQUIRE(total.ok());
  CHECK(total->raw == 6);
  CHECK(total->maximum == 8);
  CHECK(total->reward == 0.75);
  CHECK(Aggregate(Two(Aggregation::kRawSum), kScores)->reward == 6);
}

TEST_CASE("Aggregate takes plain and weighted means of the shares",
          "[rubric]") {
  CHECK(Aggregate(Two(Aggregation::kNormalisedMean), kScores)->raw ==
        Approx(0.65));
  CHECK(Aggregate(Two(Aggregation::kWeighted), kScores)->raw ==
        Approx((0.8 + 1.5) / 4));
  CHECK(Aggregate(Two(Aggregation::kWeighted), kScores)->maximum == 1);
}

TEST_CASE("Aggregate lets other criteria count by the essential ones",
          "[rubric]") {
  Rubric rubric = Two(Aggregation::kSaturating);
  rubric.criteria[1].tier = Tier::kOptional;
  CHECK(Aggregate(rubric, kScores)->raw == Approx((0.8 + 0.8 * 1.5) / 4));
}

TEST_CASE("Aggregate subtracts what is deducted", "[rubric]") {
  Rubric rubric = Two(Aggregation::kRawSum);
  rubric.criteria[1].polarity = Polarity::kDeduct;
  const auto total = Aggregate(rubric, kScores);
  CHECK(total->raw == 2);
  CHECK(total->maximum == 4);
  rubric.aggregation = Aggregation::kNormalisedMean;
  CHECK(Aggregate(rubric, {Score("a", 5), Score("b", 1)})->raw == 1);
}

TEST_CASE("Gates and vetoes bring the total down, shadows count nothing",
          "[rubric]") {
  Rubric rubric = Two(Aggregation::kGated);
  rubric.criteria[0].mode = CriterionMode::kGate;
  CHECK(Aggregate(rubric, kScores)->raw == 0);
  CHECK(Aggregate(rubric, {Score("a", 5), Score("b", 2)})->raw == Approx(0.5));
  rubric.criteria[0].mode = CriterionMode::kVeto;
  CHECK(Aggregate(rubric, kScores)->raw == Approx(0.5));
  CHECK(Aggregate(rubric, {Score("a", 0), Score("b", 2)})->raw == 0);
  rubric.aggregation = Aggregation::kRawSum;
  CHECK(Aggregate(rubric, {Score("a", 0), Score("b", 2)})->raw == 1);
  rubric.criteria[0].mode = CriterionMode::kShadow;
  const auto total = Aggregate(rubric, kScores);
  CHECK(total->raw == 2);
  CHECK(total->maximum == 3);
}

TEST_CASE("Aggregate refuses scores that are not the rubric's", "[rubric]") {
  const Rubric rubric = Two(Aggregation::kRawSum);
  for (const auto& scores : std::vector<std::vector<CriterionScore>>{
           {},
           {Score("a", 4)},
           {Score("b", 2), Score("a", 4)},
           {Score("a", 6), Score("b", 2)},
           {Score("a", 4), Score("b", 0)},
           {Score("a", std::nan("")), Score("b", 2)}}) {
    CHECK(absl::IsInvalidArgument(Aggregate(rubric, scores).status()));
  }
  CHECK(absl::IsUnimplemented(
      Aggregate(Two(Aggregation::kImplicit), kScores).status()));
  CHECK(absl::IsUnimplemented(
      Aggregate(Two(Aggregation::kRawSum, RewardScale::kRunning), kScores)
          .status()));
}

}  // namespace mpo::rubric
