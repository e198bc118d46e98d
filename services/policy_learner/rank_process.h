// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/status.h"
#include "services/policy_learner/learner_process.h"

namespace mpo::policy_learner {

// Runs a rank above 0: does its part of rank 0's work until a termination
// signal, which must be blocked already, or until its group ends. After the
// signal it goes on until rank 0 is done with the step in hand, at most
// `patience`. OK after a signal.
absl::Status RunRank(const LearnerProcessOptions& options,
                     absl::Duration patience = absl::Seconds(20));

}  // namespace mpo::policy_learner
