// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace mpo::cli {

// Which mesh a command is about.
struct Target {
  std::string run;           // Run directory, or
  std::string orchestrator;  // host:port.
};

// Adds --run and --orchestrator, which exclude each other.
void AddTarget(CLI::App& command, Target& target);

// host:port of the orchestrator. INVALID_ARGUMENT: neither was given.
// Otherwise as ReadProcesses.
absl::StatusOr<std::string> AddressOf(const Target& target);

}  // namespace mpo::cli
