// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/status.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::policy_learner {

struct LearnerProcessOptions {
  config::v1::RunConfig config;  // Validated, defaults filled in.
  std::string config_sha256;
  std::string name = "policy_learner";
  std::string listen;          // host:port of the gRPC server.
  std::string metrics_listen;  // host:port, empty = none.
};

// Runs the policy learner until a termination signal, which must be blocked
// already, or until training cannot go on. OK after a signal.
absl::Status RunLearner(const LearnerProcessOptions& options);

}  // namespace mpo::policy_learner
