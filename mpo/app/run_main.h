// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::app {

// What every service is started with.
struct ServiceOptions {
  config::v1::RunConfig config;  // Validated, defaults filled in.
  std::string config_sha256;     // config::Sha256Of.
  std::string name;              // Of this process, e.g. "actor-0".
  std::string listen;            // host:port of the gRPC server.
  std::string metrics_listen;    // host:port; empty = none.
};

// An optional flag of one service.
struct ServiceFlag {
  std::string name;    // "--rank"
  std::string* value;  // Left alone where the flag is not given.
  std::string help;
};

// The main() of a service: blocks termination signals, reads
//   --config FILE --name NAME --listen HOST:PORT [--metrics-listen HOST:PORT]
//   [--set section.key=value ...]
// and `flags`,
// loads the configuration, starts logging and calls `run`, which returns after
// a termination signal. Returns the exit code: 0; 1 when `run` failed; 2 for a
// bad command line or configuration (all problems on stderr) and when `run`
// ends with INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION, which no
// restart mends.
int RunMain(int argc, char** argv, const std::string& default_name,
            const std::function<absl::Status(const ServiceOptions&)>& run,
            const std::vector<ServiceFlag>& flags = {});

}  // namespace mpo::app
