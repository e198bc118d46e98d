// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/mesh_plan.h"

namespace mpo::cli {

// processes.json of a run directory: where the mesh that `mpo train` started
// listens, and its process ids. Other commands and tools find the mesh by it.
struct ProcessEntry {
  int pid = 0;  // 0 = not running.
  ProcessAddresses addresses;
};
using ProcessTable = std::map<std::string, ProcessEntry>;

absl::Status WriteProcesses(const std::filesystem::path& directory,
                            const ProcessTable& table);

// NOT_FOUND: no such file; the message says what was expected. DATA_LOSS: not
// understood.
absl::StatusOr<ProcessTable> ReadProcesses(
    const std::filesystem::path& directory);

}  // namespace mpo::cli
