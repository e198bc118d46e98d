// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/assess.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "services/meta_reward_server/evidence_analysis.h"
#include "services/meta_reward_server/proposal_check.h"
#include "services/meta_reward_server/statistics.h"

namespace mpo::meta_reward_server {
namespace {

// Share of the rubric's points: whole points by each check, weighted unless
// the rubric is a plain sum; deductions take away. Gates and vetoes are left
// out: they would make the figures jump.
std::optional<double> RubricShare(const Rubric& rubric,
                                  const Observation& row) {
  double points = 0;
  double maximum = 0;
  for (const Criterion& criterion : rubric.criteria) {
    if (criterion.mode != CriterionMode::kScore) continue;
    const auto measure = row.measures.find(criterion.check->name);
    if (measure == row.measures.end()) return std::nullopt;
    const double range = criterion.maximum - criterion.minimum;
    const double share =
        std::round(range * CheckShare(*criterion.check, measure->second)) /
        range;
    const double worth = rubric.aggregation == Aggregation::kRawSum ? range
                         : rubric.aggregation == Aggregation::kNormalisedMean
                             ? 1.0
                             : criterion.weight;
    if (criterion.polarity == Polarity::kDeduct) {
      points -= worth * share;
    } else {
      points += worth * share;
      maximum += worth;
    }
  }
  if (maximum <= 0) return std::nullopt;
  return std::clamp(points / maximum, 0.0, 1.0);
}

}  // namespace

absl::StatusOr<Assessment> Assess(const Rubric& active, const Rubric& candidate,
                                  const std::vector<EvidenceItem>& evidence,
                                  const PromptLimits& limits) {
  PromptLimits strict = limits;
  strict.require_checks = true;
  if (const auto problems = ProposalProblems(active, strict);
      !problems.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("active rubric: ", absl::StrJoin(problems, "; ")));
  }
  Assessment assessment;
  assessment.problems = ProposalProblems(candidate, strict);
  if (!assessment.problems.empty()) return assessment;
  MPO_ASSIGN_OR_RETURN(const std::vector<Observation> rows, Observe(evidence));
  std::vector<double> old_shares;
  std::vector<double> new_shares;
  for (const Observation& row : rows) {
    const std::optional<double> before = RubricShare(active, row);
    const std::optional<double> after = RubricShare(candidate, row);
    if (!before.has_value() || !after.has_value()) continue;
    old_shares.push_back(*before);
    new_shares.push_back(*after);
  }
  if (old_shares.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("evidence: none of the ", evidence.size(),
                     " responses can be scored under both rubrics"));
  }
  assessment.active_mean = MomentsOf(old_shares).mean;
  assessment.candidate_mean = MomentsOf(new_shares).mean;
  assessment.candidate_deviation = MomentsOf(new_shares).deviation;
  assessment.rank_correlation = RankCorrelation(old_shares, new_shares);
  return assessment;
}

}  // namespace mpo::meta_reward_server
