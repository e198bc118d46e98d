// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "mpo/config/v1/config.pb.h"
#include "services/orchestrator/engine_types.h"
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

// The engine's options from the run's configuration, with the prompts of
// data.train and data.heldout read. INVALID_ARGUMENT: a prompt file or the
// plan is not valid, with every problem; NOT_FOUND: no such file.
absl::StatusOr<EngineOptions> EngineOptionsFrom(
    const config::v1::RunConfig& config, const std::string& config_sha256);

// What identifies the run in its ledger. The prompts are part of it.
RunRecord RunRecordFrom(const EngineOptions& options);

}  // namespace mpo::orchestrator
