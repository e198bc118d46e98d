// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "services/policy_learner/training_batch.h"

namespace mpo::policy_learner {

// Judged rollouts as JSON lines, one object a sample:
//   {"step": 1, "sample_key": "..", "group": "prompt id",
//    "prompt_tokens": [..], "response_tokens": [..], "logprobs": [..],
//    "temperature": 0.8, "finish_reason": "stop" | "length" | "cancelled" |
//    "failed", "spans": [[begin, end, policy version], ..],
//    "reward": 0.5 | "unscorable": "why"}
// temperature (1), finish_reason ("length") and spans (all tokens from version
// step - 1) may be left out. Numbers survive there and back bit for bit.

// One line with its end.
std::string ToJsonLine(const TrainingSample& sample);

// Blank lines are skipped. INVALID_ARGUMENT names `source`, the line and the
// key: bad JSON, an unknown, missing or ill-typed key, neither or both of
// reward and unscorable, a sample_key twice, no line at all. Does not check
// what ValidateSample checks.
absl::StatusOr<std::vector<TrainingSample>> ParseRolloutLines(
    std::string_view text, const std::string& source);

}  // namespace mpo::policy_learner
