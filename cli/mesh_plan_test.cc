// SPDX-License-Identifier: Apache-2.0
#include "cli/mesh_plan.h"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "cli/ports.h"
#include "mpo/rpc/server_host.h"

namespace mpo::cli {
namespace {

using Catch::Contains;

// A folder with empty files named like the services.
struct Binaries {
  explicit Binaries(const std::vector<std::string>& names) {
    std::string name =
        (std::filesystem::temp_directory_path() / "mpo_bin_XXXXXX").string();
    path = mkdtemp(name.data());
    for (const std::string& one : names) std::ofstream(path / one) << "x";
  }
  ~Binaries() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

const std::vector<std::string> kServices = {
    "orchestrator", "policy_learner", "reward_server", "meta_reward_server",
    "rollout_actor"};

}  // namespace

TEST_CASE("AssignAddresses gives every process its own ports", "[cli]") {
  config::v1::RunConfig config;
  config.mutable_mesh()->set_actors(2);
  config.mutable_mesh()->set_orchestrator("127.0.0.1:7070");
  const auto addresses = AssignAddresses({}, config);
  REQUIRE(addresses.ok());
  CHECK(addresses->size() == 6);
  CHECK(config.mesh().orchestrator() == addresses->at("orchestrator").grpc);
  CHECK(config.mesh().reward_server() == addresses->at("reward_server").grpc);
  CHECK(addresses->at("actor-0").grpc != addresses->at("actor-1").grpc);
}

TEST_CASE("AssignAddresses keeps fixed addresses and checks them", "[cli]") {
  config::v1::RunConfig config;
  const auto free = FreeLoopbackAddresses(1);
  REQUIRE(free.ok());
  config.mutable_mesh()->set_orchestrator(free->front());
  SECTION("free") {
    const auto addresses = AssignAddresses({"orchestrator"}, config);
    REQUIRE(addresses.ok());
    CHECK(addresses->at("orchestrator").grpc == free->front());
  }
  SECTION("given twice") {
    config.mutable_mesh()->set_reward_server(free->front());
    CHECK(absl::IsInvalidArgument(
        AssignAddresses({"orchestrator", "reward_server"}, config).status()));
  }
  SECTION("in use") {
    const auto server = rpc::ServerHost::Start({.address = free->front()}, {});
    REQUIRE(server.ok());
    const auto addresses = AssignAddresses({"orchestrator"}, config);
    CHECK(absl::IsAlreadyExists(addresses.status()));
    CHECK_THAT(std::string(addresses.status().message()),
               Contains("mesh.orchestrator") && Contains(free->front()));
  }
}

TEST_CASE("PlanMesh starts the five services with their threads", "[cli]") {
  const Binaries binaries(kServices);
  config::v1::RunConfig config;
  config.mutable_learner()->set_threads(1);
  const auto addresses = AssignAddresses({}, config);
  REQUIRE(addresses.ok());
  const auto specs = PlanMesh(config, *addresses,
                              {.binaries = binaries.path,
                               .resolved_config = "run/config.resolved.yaml",
                               .logs = "run/logs",
                               .cores = 2});
  REQUIRE(specs.ok());
  REQUIRE(specs->size() == 5);
  const ProcessSpec& orchestrator = specs->front();
  CHECK(orchestrator.argv ==
        std::vector<std::string>{
            (binaries.path / "orchestrator").string(), "--config",
            "run/config.resolved.yaml", "--name", "orchestrator", "--listen",
            config.mesh().orchestrator(), "--metrics-listen",
            addresses->at("orchestrator").metrics});
  CHECK(orchestrator.environment.count("OMP_NUM_THREADS") == 0);
  CHECK(orchestrator.drain_stage == 2);
  const ProcessSpec& learner = (*specs)[1];
  CHECK(learner.environment.at("OMP_NUM_THREADS") == "1");
  const ProcessSpec& actor = specs->back();
  CHECK(actor.argv[0] == (binaries.path / "rollout_actor").string());
  CHECK(actor.environment.at("OMP_NUM_THREADS") == "2");
  CHECK(actor.environment.at("OMP_WAIT_POLICY") == "passive");
  CHECK(actor.log == "run/logs/actor-0.log");
  CHECK(actor.drain_stage == 0);
}

TEST_CASE("PlanMesh starts the learner's ranks as one group", "[cli]") {
  const Binaries binaries(kServices);
  config::v1::RunConfig config;
  config.mutable_learner()->set_ranks(3);
  config.mutable_mesh()->set_learner_group("127.0.0.1:7075");
  const auto addresses = AssignAddresses({}, config);
  REQUIRE(addresses.ok());
  CHECK(config.mesh().learner_group() != "127.0.0.1:7075");
  const auto specs = PlanMesh(config, *addresses,
                              {.binaries = binaries.path,
                               .resolved_config = "c",
                               .logs = "l",
                               .cores = 8});
  REQUIRE(specs.ok());
  REQUIRE(specs->size() == 7);
  for (int rank = 0; rank < 3; ++rank) {
    const ProcessSpec& spec = (*specs)[1 + rank];
    CHECK(spec.name == (rank == 0 ? "policy_learner"
                                  : "learner-rank-" + std::to_string(rank)));
    CHECK(spec.argv[0] == (binaries.path / "policy_learner").string());
    CHECK(spec.restart_group == "learner");
    // All of them compute at once.
    CHECK(spec.environment.at("OMP_NUM_THREADS") == "2");
    CHECK(spec.drain_stage == (rank == 0 ? 1 : 2));
    CHECK((spec.argv[spec.argv.size() - 2] == "--rank") == (rank > 0));
  }
  CHECK((*specs)[3].argv.back() == "2");
  CHECK(specs->back().restart_group.empty());
  CHECK(specs->back().environment.at("OMP_NUM_THREADS") == "8");
}

TEST_CASE("AssignAddresses keeps a fixed meeting place of the ranks", "[cli]") {
  config::v1::RunConfig config;
  config.mutable_mesh()->set_learner_group("learner:7075");
  REQUIRE(AssignAddresses({"learner_group"}, config).ok());
  CHECK(config.mesh().learner_group() == "learner:7075");
}

TEST_CASE("PlanMesh names every binary that is missing", "[cli]") {
  const Binaries binaries({"orchestrator", "policy_learner", "reward_server"});
  config::v1::RunConfig config;
  const auto addresses = AssignAddresses({}, config);
  REQUIRE(addresses.ok());
  const auto specs = PlanMesh(
      config, *addresses,
      {.binaries = binaries.path, .resolved_config = "c", .logs = "l"});
  CHECK(absl::IsNotFound(specs.status()));
  CHECK_THAT(std::string(specs.status().message()),
             Contains("meta_reward_server") && Contains("rollout_actor"));
}

}  // namespace mpo::cli
