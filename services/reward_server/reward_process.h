// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/status.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::reward_server {

struct RewardProcessOptions {
  config::v1::RunConfig config;  // Validated, defaults filled in.
  std::string name = "reward_server";
  std::string listen;          // host:port of the gRPC server.
  std::string metrics_listen;  // host:port; empty = none.
};

// Runs the reward server until a termination signal, which must be blocked
// already. OK after a signal. INVALID_ARGUMENT: the judge's URL or a number is
// wrong, or the initial rubric is not valid. NOT_FOUND: a file is missing.
// UNAVAILABLE: a port is taken.
absl::Status RunRewardServer(const RewardProcessOptions& options);

}  // namespace mpo::reward_server
