// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/mesh_ledger.h"

#include <grpcpp/grpcpp.h>

#include <catch2/catch.hpp>
#include <future>

#include "mpo/rpc/server_host.h"

namespace mpo::policy_learner {
namespace {

// An orchestrator that answers as the test tells it to.
struct Orchestrator : v1::OrchestratorService::Service {
  v1::RegisterRequest registered;
  v1::CommitStepRequest committed;
  v1::AssignBatchResponse batch;
  grpc::Status answer, register_answer;
  std::promise<int64_t> heartbeat;
  std::promise<void> asked;
  std::atomic<int> registrations = 0, heartbeats = 0;

  grpc::Status Register(grpc::ServerContext*, const v1::RegisterRequest* r,
                        v1::RegisterResponse* response) override {
    registered = *r;
    response->set_member_id("m");
    if (++registrations == 1) asked.set_value();
    return register_answer;
  }
  grpc::Status Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest* r,
                         v1::HeartbeatResponse*) override {
    // The first membership has lapsed.
    if (++heartbeats == 1) return {grpc::StatusCode::NOT_FOUND, "lapsed"};
    if (heartbeats == 2) heartbeat.set_value(r->policy_version());
    return grpc::Status::OK;
  }
  grpc::Status AssignBatch(grpc::ServerContext*, const v1::AssignBatchRequest*,
                           v1::AssignBatchResponse* response) override {
    *response = batch;
    return answer;
  }
  grpc::Status CommitStep(grpc::ServerContext*, const v1::CommitStepRequest* r,
                          v1::CommitStepResponse*) override {
    committed = *r;
    return answer;
  }
};

struct Fixture {
  Fixture() { host = *rpc::ServerHost::Start({}, {&orchestrator}); }
  std::unique_ptr<MeshLedger> Ledger() {
    return std::make_unique<MeshLedger>(MeshLedger::Options{
        .orchestrator = "127.0.0.1:" + std::to_string(host->port()),
        .name = "policy_learner",
        .incarnation = "i",
        .address = "a:1",
        .config_sha256 = "c",
        .policy_version = [] { return int64_t{7}; },
        .heartbeat = absl::Milliseconds(5)});
  }
  Orchestrator orchestrator;
  std::unique_ptr<rpc::ServerHost> host;
};

TEST_CASE("The learner joins, renews its membership and joins again",
          "[learner]") {
  Fixture f;
  const auto ledger = f.Ledger();
  CHECK(f.orchestrator.heartbeat.get_future().get() == 7);
  CHECK(f.orchestrator.registrations == 2);
  CHECK(f.orchestrator.registered.role() == v1::ROLE_POLICY_LEARNER);
  CHECK(f.orchestrator.registered.config_sha256() == "c");
  CHECK(ledger->refused().ok());
}

TEST_CASE("Batches and commits cross the wire", "[learner]") {
  Fixture f;
  const auto ledger = f.Ledger();
  auto assigned = ledger->AssignBatch(1, absl::Seconds(1), {});
  REQUIRE(assigned.ok());
  CHECK_FALSE(assigned->sample_keys.has_value());
  CHECK_FALSE(assigned->finished);
  f.orchestrator.batch.mutable_batch()->add_sample_keys("b");
  f.orchestrator.batch.mutable_batch()->add_sample_keys("a");
  assigned = ledger->AssignBatch(1, absl::Seconds(1), {});
  REQUIRE(assigned.ok());
  CHECK(assigned->sample_keys == std::vector<std::string>{"b", "a"});
  REQUIRE(ledger->CommitStep(3, "abc", {{"kl", 0.5}}, {{"wait", 2}}, {}).ok());
  CHECK(f.orchestrator.committed.step() == 3);
  CHECK(f.orchestrator.committed.weights_sha256() == "abc");
  CHECK(f.orchestrator.committed.metrics().at("kl") == 0.5);
  f.orchestrator.answer = {grpc::StatusCode::FAILED_PRECONDITION, "other"};
  CHECK(ledger->CommitStep(3, "abd", {}, {}, {}).code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("A refused configuration ends the asking for batches", "[learner]") {
  Fixture f;
  f.orchestrator.register_answer = {grpc::StatusCode::FAILED_PRECONDITION,
                                    "configuration differs"};
  const auto ledger = f.Ledger();
  f.orchestrator.asked.get_future().wait();
  // The answer is on its way.
  absl::Status status;
  while ((status = ledger->refused()).ok()) std::this_thread::yield();
  CHECK(ledger->AssignBatch(1, absl::Seconds(1), {}).status() == status);
}

}  // namespace
}  // namespace mpo::policy_learner
