// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "mpo/config/v1/config.pb.h"
#include "services/policy_learner/trainer_options.h"

namespace mpo::policy_learner {

// The trainer's options from a validated configuration; schedule and constant
// length come from run.steps and generation.max_new_tokens (0: left at their
// defaults). INVALID_ARGUMENT lists names the loader would have refused and
// combinations that make no sense.
absl::StatusOr<TrainerOptions> TrainerOptionsFrom(
    const config::v1::RunConfig& config);

}  // namespace mpo::policy_learner
