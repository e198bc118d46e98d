// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "services/policy_learner/policy_trainer.h"

// step.json of a checkpoint: what its step gave, for committing it again.
namespace mpo::policy_learner {

// JSON has no NaN and no infinity: such a figure becomes null, and that NaN.
std::string StepResultJson(const StepResult& result);

// DATA_LOSS names `source` and what is missing or no number.
absl::StatusOr<StepResult> ParseStepResult(const std::string& text,
                                           const std::string& source);

}  // namespace mpo::policy_learner
