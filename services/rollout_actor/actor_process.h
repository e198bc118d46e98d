// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/status.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::rollout_actor {

struct ActorProcessOptions {
  config::v1::RunConfig config;  // Validated, defaults filled in.
  std::string config_sha256;
  std::string name = "actor-0";  // Stable and unique in the run.
  std::string listen;            // host:port of the gRPC server.
  std::string metrics_listen;    // host:port; empty = none.
};

// Runs an actor until a termination signal, which must be blocked already, or
// until the orchestrator refuses it. OK after a signal, also when the unit in
// hand had to be left to its lease. Errors of loading model and tokenizer;
// INVALID_ARGUMENT when the two do not belong together; UNAVAILABLE when a
// port is taken.
absl::Status RunActor(const ActorProcessOptions& options);

}  // namespace mpo::rollout_actor
