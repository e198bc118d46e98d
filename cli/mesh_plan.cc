// SPDX-License-Identifier: Apache-2.0
#include "cli/mesh_plan.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/ports.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {
namespace {

using config::v1::RunConfig;

constexpr char kRankPrefix[] = "learner-rank-";

bool IsRank(const std::string& process) {
  return process.rfind(kRankPrefix, 0) == 0;
}

// "actor-3" runs the binary rollout_actor, "learner-rank-1" policy_learner; the
// others are named like theirs.
std::string BinaryOf(const std::string& process) {
  if (IsRank(process)) return "policy_learner";
  return process.rfind("actor-", 0) == 0 ? "rollout_actor" : process;
}

std::string* MeshField(RunConfig& config, const std::string& process) {
  if (process == "orchestrator") {
    return config.mutable_mesh()->mutable_orchestrator();
  }
  if (process == "policy_learner") {
    return config.mutable_mesh()->mutable_policy_learner();
  }
  if (process == "reward_server") {
    return config.mutable_mesh()->mutable_reward_server();
  }
  if (process == "meta_reward_server") {
    return config.mutable_mesh()->mutable_meta_reward_server();
  }
  return nullptr;
}

int DrainStage(const std::string& process) {
  if (BinaryOf(process) == "rollout_actor") return 0;
  // Rank 0 of the learner finishes its step with the other ranks' help.
  return process == "orchestrator" || IsRank(process) ? 2 : 1;
}

std::map<std::string, std::string> EnvironmentOf(const RunConfig& config,
                                                 const std::string& process,
                                                 int cores) {
  // gRPC's default of 5 s makes it slow to see that a peer came back.
  std::map<std::string, std::string> environment = {
      {"GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "300"}};
  const std::string binary = BinaryOf(process);
  if (binary != "policy_learner" && binary != "rollout_actor") {
    return environment;
  }
  const int asked = binary == "policy_learner" ? config.learner().threads()
                                               : config.generation().threads();
  // All ranks of the learner compute at the same time.
  const int share =
      binary == "policy_learner"
          ? std::max(1, cores / std::max(1, config.learner().ranks()))
          : cores;
  environment["OMP_NUM_THREADS"] = absl::StrCat(asked > 0 ? asked : share);
  // Threads that spin after their work starve the other process of its cores.
  environment["OMP_WAIT_POLICY"] = "passive";
  // Large fresh buffers cost page faults; huge pages save most of them.
  environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1";
  return environment;
}

}  // namespace

std::vector<std::string> ProcessNames(const RunConfig& config) {
  std::vector<std::string> names = {"orchestrator", "policy_learner"};
  for (int rank = 1; rank < config.learner().ranks(); ++rank) {
    names.push_back(absl::StrCat(kRankPrefix, rank));
  }
  names.insert(names.end(), {"reward_server", "meta_reward_server"});
  for (int i = 0; i < std::max(1, config.mesh().actors()); ++i) {
    names.push_back(absl::StrCat("actor-", i));
  }
  return names;
}

absl::StatusOr<std::map<std::string, ProcessAddresses>> AssignAddresses(
    const std::vector<std::string>& fixed, RunConfig& config) {
  const std::vector<std::string> names = ProcessNames(config);
  MPO_ASSIGN_OR_RETURN(
      const std::vector<std::string> free,
      FreeLoopbackAddresses(static_cast<int>(names.size()) * 2 + 1));
  std::map<std::string, ProcessAddresses> addresses;
  std::set<std::string> taken;
  if (std::find(fixed.begin(), fixed.end(), "learner_group") == fixed.end()) {
    config.mutable_mesh()->set_learner_group(free.back());
  }
  for (size_t i = 0; i < names.size(); ++i) {
    ProcessAddresses& own = addresses[names[i]];
    own = {.grpc = free[2 * i], .metrics = free[2 * i + 1]};
    std::string* field = MeshField(config, names[i]);
    if (field == nullptr) continue;
    if (std::find(fixed.begin(), fixed.end(), names[i]) != fixed.end()) {
      own.grpc = *field;
      if (!taken.insert(own.grpc).second) {
        return absl::InvalidArgumentError(absl::StrCat(
            "mesh.", names[i], ": ", own.grpc,
            " is given to two services, expected one address each"));
      }
      if (const absl::Status free_port = CheckPortFree(
              own.grpc,
              "leave the address out of the configuration's mesh section");
          !free_port.ok()) {
        return absl::Status(free_port.code(),
                            absl::StrCat("mesh.", names[i], ": ",
                                         std::string(free_port.message())));
      }
    }
    *field = own.grpc;
  }
  return addresses;
}

absl::StatusOr<std::vector<ProcessSpec>> PlanMesh(
    const RunConfig& config,
    const std::map<std::string, ProcessAddresses>& addresses,
    const MeshPlanOptions& options) {
  std::vector<ProcessSpec> specs;
  std::set<std::string> missing;
  for (const std::string& name : ProcessNames(config)) {
    const std::filesystem::path binary = options.binaries / BinaryOf(name);
    std::error_code ignored;
    if (!std::filesystem::exists(binary, ignored)) {
      missing.insert(binary.string());
    }
    const auto found = addresses.find(name);
    if (found == addresses.end()) {
      return absl::InternalError(absl::StrCat("no address for ", name));
    }
    ProcessSpec spec = {
        .name = name,
        .argv = {binary.string(), "--config", options.resolved_config.string(),
                 "--name", name, "--listen", found->second.grpc,
                 "--metrics-listen", found->second.metrics},
        .environment = EnvironmentOf(config, name, options.cores),
        .log = options.logs / (name + ".log"),
        .drain_stage = DrainStage(name)};
    if (config.learner().ranks() > 1 && BinaryOf(name) == "policy_learner") {
      spec.restart_group = "learner";
    }
    if (IsRank(name)) {
      spec.argv.insert(spec.argv.end(),
                       {"--rank", name.substr(std::strlen(kRankPrefix))});
    }
    specs.push_back(std::move(spec));
  }
  if (!missing.empty()) {
    return absl::NotFoundError(
        absl::StrCat("expected the services beside mpo, these are missing: ",
                     absl::StrJoin(missing, ", "), "; build them"));
  }
  return specs;
}

}  // namespace mpo::cli
