// SPDX-License-Identifier: Apache-2.0
#include "cli/target.h"

#include "absl/strings/str_cat.h"
#include "cli/process_table.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {

void AddTarget(CLI::App& command, Target& target) {
  auto* run = command.add_option("--run", target.run, "Run directory");
  command
      .add_option("--orchestrator", target.orchestrator,
                  "host:port of the orchestrator")
      ->excludes(run);
}

absl::StatusOr<std::string> AddressOf(const Target& target) {
  if (!target.orchestrator.empty()) return target.orchestrator;
  if (target.run.empty()) {
    return absl::InvalidArgumentError(
        "which run? give --run DIR or --orchestrator HOST:PORT");
  }
  MPO_ASSIGN_OR_RETURN(const ProcessTable table, ReadProcesses(target.run));
  const auto found = table.find("orchestrator");
  if (found == table.end()) {
    return absl::NotFoundError(absl::StrCat(
        target.run, "/processes.json: expected an entry \"orchestrator\""));
  }
  if (found->second.pid == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the run in ", target.run, " is not running; mpo status --run ",
        target.run, " tells where it stands"));
  }
  return found->second.addresses.grpc;
}

}  // namespace mpo::cli
