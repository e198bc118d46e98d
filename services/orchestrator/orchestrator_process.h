// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/status.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::orchestrator {

struct OrchestratorProcessOptions {
  config::v1::RunConfig config;  // Validated, defaults filled in.
  std::string config_sha256;
  std::string listen;          // host:port of the gRPC server.
  std::string metrics_listen;  // host:port; empty = none.
};

// Runs the orchestrator until a termination signal, which must be blocked
// already, or until the ledger cannot be trusted. OK after a signal.
// INVALID_ARGUMENT: prompts, rubric or plan are not valid, with every problem.
// FAILED_PRECONDITION: the run directory belongs to another run.
absl::Status RunOrchestrator(const OrchestratorProcessOptions& options);

}  // namespace mpo::orchestrator
