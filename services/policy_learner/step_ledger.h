// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mpo::policy_learner {

// What AssignBatch answered.
struct StepAssignment {
  std::optional<std::vector<std::string>> sample_keys;  // In plan order.
  bool finished = false;                                // No step is left.
};

// What the learner needs of the orchestrator. Implementations are thread-safe.
class StepLedger {
 public:
  virtual ~StepLedger() = default;

  // Waits, at most `wait` and until stopped, for the batch of `step`; the same
  // step always gets the same batch. Neither keys nor finished: not complete
  // yet. FAILED_PRECONDITION: not the next step or an earlier one.
  virtual absl::StatusOr<StepAssignment> AssignBatch(int64_t step,
                                                     absl::Duration wait,
                                                     std::stop_token stop) = 0;

  // Records a trained step; idempotent. FAILED_PRECONDITION: not assigned, or
  // committed with other weights.
  virtual absl::Status CommitStep(int64_t step,
                                  const std::string& weights_sha256,
                                  const std::map<std::string, double>& metrics,
                                  const std::map<std::string, double>& seconds,
                                  std::stop_token stop) = 0;
};

}  // namespace mpo::policy_learner
