// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/policy_learner/policy_trainer.h"

// step.json of a checkpoint: what its step gave, for committing it again.
namespace mpo::policy_learner {

// JSON has no NaN and no infinity: such a figure becomes null, and that NaN.
std::string StepResultJson(const StepResult& result);

// DATA_LOSS names `source` and what is missing or no number.
absl::StatusOr<StepResult> ParseStepResult(const std::string& text,
                                           const std::string& source);

// The file in the directory of a checkpoint; errors as files' and as above.
absl::Status WriteStepResult(const StepResult& result,
                             const std::filesystem::path& checkpoint);
absl::StatusOr<StepResult> ReadStepResult(
    const std::filesystem::path& checkpoint);

}  // namespace mpo::policy_learner
