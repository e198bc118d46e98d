// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mpo {

// How the embedded grader reads a criterion: one measure of the catalogue
// (docs/quickstart.md) on a straight line. At `zero_at` the criterion earns
// its minimum, at `saturate_at` its maximum; zero_at > saturate_at means less
// is better. They must differ.
struct Check {
  std::string name;
  double zero_at = 0;
  double saturate_at = 1;
  bool operator==(const Check&) const = default;
};

enum class Polarity { kAward, kDeduct };
enum class Tier { kEssential, kImportant, kOptional, kPitfall };
enum class CriterionMode { kScore, kGate, kVeto, kShadow };
enum class Executor { kJudge, kProgram };
enum class Aggregation {
  kRawSum,          // Paper: plain sum of the item scores.
  kNormalisedMean,  // Mean of (score - minimum) / (maximum - minimum).
  kWeighted,        // Weighted mean of the same.
  kGated,           // kWeighted, 0 unless every gate criterion is at maximum.
  kImplicit,        // One score for the whole rubric.
  kSaturating,      // Weighted, essential criteria first.
};
enum class RewardScale { kNone, kByMaximum, kContinuity, kRunning };

// One item of a rubric.
struct Criterion {
  std::string id;     // Stable across versions, [a-z0-9_]+.
  std::string title;
  std::string text;   // What a judge reads.
  int minimum = 0;
  int maximum = 5;
  double weight = 1.0;  // > 0.
  Polarity polarity = Polarity::kAward;
  Tier tier = Tier::kEssential;
  CriterionMode mode = CriterionMode::kScore;
  Executor executor = Executor::kJudge;
  std::map<int, std::string> levels;  // Anchors: score -> description.
  std::optional<Check> check;
  bool operator==(const Criterion&) const = default;
};

// The instructions a judge scores with; immutable and content-addressed
// (mpo::rubric::Sha256Of).
struct Rubric {
  std::string id;
  std::string scope = "global";  // global | cluster:<id> | instance:<prompt id>
  Aggregation aggregation = Aggregation::kRawSum;
  RewardScale scale = RewardScale::kByMaximum;
  std::vector<Criterion> criteria;
  bool operator==(const Rubric&) const = default;
};

}  // namespace mpo
