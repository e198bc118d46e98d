// SPDX-License-Identifier: Apache-2.0
#include "mpo/types/verdict.h"

namespace mpo {

const char* Name(UnscorableReason reason) {
  switch (reason) {
    case UnscorableReason::kJudgeTimeout:
      return "judge_timeout";
    case UnscorableReason::kJudgeUnavailable:
      return "judge_unavailable";
    case UnscorableReason::kJudgeRateLimited:
      return "judge_rate_limited";
    case UnscorableReason::kJudgeRefused:
      return "judge_refused";
    case UnscorableReason::kParseError:
      return "parse_error";
    case UnscorableReason::kOutOfRange:
      return "out_of_range";
    case UnscorableReason::kMissingCriterion:
      return "missing_criterion";
    case UnscorableReason::kInvalidResponse:
      return "invalid_response";
  }
  return "unknown";
}

}  // namespace mpo
