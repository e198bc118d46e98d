// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/judge/judge.h"
#include "mpo/judge/measures.h"

namespace mpo::judge {

// Whole points of a criterion's check on a response's measures: the straight
// line from zero_at (minimum) to saturate_at (maximum), rounded, clipped.
// NOT_FOUND: the criterion has no check, or its measure is absent.
absl::StatusOr<CriterionScore> CheckScore(const Criterion& criterion,
                                          const Measures& measures);

// The verdict that scores for every criterion make: aggregated, or unscorable
// where they do not fit the rubric.
Verdict VerdictOf(const Rubric& rubric, std::vector<CriterionScore> scores,
                  const std::string& judge);

// The grader without a model: every criterion's check is measured by program.
// Unscorable (missing_criterion) where a criterion has no check or a measure
// is absent. An empty response is scored like any other. Pure, thread-safe.
class EmbeddedJudge final : public Judge {
 public:
  void Score(const Rubric& rubric, const std::vector<JudgeItem>& items,
             std::stop_token stop, const Callback& done) override;
  std::string name() const override { return "embedded"; }
};

}  // namespace mpo::judge
