// SPDX-License-Identifier: Apache-2.0
#include "mpo/judge/embedded_judge.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/rubric/aggregate.h"

namespace mpo::judge {

Verdict Unscorable(UnscorableReason reason, const std::string& detail) {
  Verdict verdict;
  verdict.reason = reason;
  verdict.detail = detail;
  return verdict;
}

absl::StatusOr<CriterionScore> CheckScore(const Criterion& criterion,
                                          const Measures& measures) {
  if (!criterion.check.has_value()) {
    return absl::NotFoundError(absl::StrCat(
        "criterion ", criterion.id, " has no check a program can read"));
  }
  const Check& check = *criterion.check;
  const auto found = measures.find(check.name);
  if (found == measures.end() || !std::isfinite(found->second)) {
    return absl::NotFoundError(
        absl::StrCat("criterion ", criterion.id, ": measure ", check.name,
                     IsMeasure(check.name) ? " does not apply to this response"
                                           : " is not in the catalogue"));
  }
  const double share = std::clamp(
      (found->second - check.zero_at) / (check.saturate_at - check.zero_at),
      0.0, 1.0);
  return CriterionScore{
      .id = criterion.id,
      .score = std::round(criterion.minimum +
                          share * (criterion.maximum - criterion.minimum)),
      .minimum = static_cast<double>(criterion.minimum),
      .maximum = static_cast<double>(criterion.maximum),
      .rationale = absl::StrFormat("%s %.4g", check.name, found->second)};
}

Verdict VerdictOf(const Rubric& rubric, std::vector<CriterionScore> scores,
                  const std::string& judge) {
  const absl::StatusOr<rubric::Total> total = rubric::Aggregate(rubric, scores);
  if (!total.ok()) {
    Verdict verdict = Unscorable(UnscorableReason::kOutOfRange,
                                 std::string(total.status().message()));
    verdict.judge = judge;
    return verdict;
  }
  Verdict verdict;
  verdict.scored = true;
  verdict.judge = judge;
  verdict.criteria = std::move(scores);
  verdict.raw = total->raw;
  verdict.maximum = total->maximum;
  verdict.reward = total->reward;
  return verdict;
}

void EmbeddedJudge::Score(const Rubric& rubric,
                          const std::vector<JudgeItem>& items,
                          std::stop_token stop, const Callback& done) {
  std::vector<MeasuredText> texts;
  for (const JudgeItem& item : items) {
    texts.push_back({.prompt = &item.prompt,
                     .response = &item.response,
                     .base_mean_logprob = item.base_mean_logprob});
  }
  const std::vector<Measures> measures = MeasureBatch(texts);
  for (size_t i = 0; i < items.size(); ++i) {
    Verdict verdict;
    if (stop.stop_requested()) {
      verdict = Unscorable(UnscorableReason::kJudgeUnavailable, "stopped");
    } else {
      std::vector<CriterionScore> scores;
      absl::Status problem;
      for (const Criterion& criterion : rubric.criteria) {
        absl::StatusOr<CriterionScore> score =
            CheckScore(criterion, measures[i]);
        if (!score.ok()) {
          problem = score.status();
          break;
        }
        scores.push_back(*std::move(score));
      }
      verdict = problem.ok() ? VerdictOf(rubric, std::move(scores), name())
                             : Unscorable(UnscorableReason::kMissingCriterion,
                                          std::string(problem.message()));
    }
    verdict.judge = name();
    done(i, std::move(verdict));
  }
}

}  // namespace mpo::judge
