// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/processes.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::cli {

// Where one process of the mesh listens.
struct ProcessAddresses {
  std::string grpc;
  std::string metrics;  // Prometheus text over HTTP.
};

// Names of the mesh's processes in the order they are started: orchestrator,
// policy_learner, learner-rank-1, ..., reward_server, meta_reward_server,
// actor-0, ...
std::vector<std::string> ProcessNames(const config::v1::RunConfig& config);

// Gives every process its addresses: the one of the configuration's mesh
// section where `fixed` holds its key ("orchestrator", ...), else a free
// loopback port. Writes them into the mesh section. ALREADY_EXISTS: a fixed
// port is in use. INVALID_ARGUMENT: a fixed address is malformed or given
// twice.
absl::StatusOr<std::map<std::string, ProcessAddresses>> AssignAddresses(
    const std::vector<std::string>& fixed, config::v1::RunConfig& config);

// Everything needed to start the mesh.
struct MeshPlanOptions {
  std::filesystem::path binaries;         // Folder of the five services.
  std::filesystem::path resolved_config;  // Passed as --config.
  std::filesystem::path logs;             // Folder.
  int cores = 1;
};

// One spec a process, in start order. Actors are drained first, the
// orchestrator last. NOT_FOUND: a binary is missing; all of them are named.
absl::StatusOr<std::vector<ProcessSpec>> PlanMesh(
    const config::v1::RunConfig& config,
    const std::map<std::string, ProcessAddresses>& addresses,
    const MeshPlanOptions& options);

}  // namespace mpo::cli
