// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace mpo {

enum class UnscorableReason {
  kJudgeTimeout,      // No answer before the deadline.
  kJudgeUnavailable,  // Connection refused, 5xx, circuit open, retries spent.
  kJudgeRateLimited,  // 429 until the retries were spent.
  kJudgeRefused,      // Other 4xx, or the judge declined to answer.
  kParseError,        // The answer was not the asked schema.
  kOutOfRange,        // A score outside the criterion's range.
  kMissingCriterion,  // The answer left out a criterion.
  kInvalidResponse,   // The rollout itself cannot be judged (failed, NaN).
};

// Score of one criterion.
struct CriterionScore {
  std::string id;
  double score = 0;
  double minimum = 0;
  double maximum = 0;
  std::string rationale;
  bool operator==(const CriterionScore&) const = default;
};

// The outcome for one rollout: scored or unscorable. An unscorable verdict has
// no reward; nothing may read one from it.
struct Verdict {
  bool scored = false;
  UnscorableReason reason = UnscorableReason::kInvalidResponse;  // if !scored
  std::string detail;  // if !scored: what happened, for people.
  std::string rubric_sha256;
  std::string judge;  // Name of the judge that answered.
  std::vector<CriterionScore> criteria;
  double raw = 0;      // Aggregated score on the rubric's own range.
  double maximum = 0;  // Largest possible `raw`.
  double reward = 0;   // After the rubric's scale policy.
  bool operator==(const Verdict&) const = default;
};

// Stable lower-case name, e.g. "judge_timeout": metrics label and JSON value.
const char* Name(UnscorableReason reason);

}  // namespace mpo
