// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/orchestrator_service.h"

#include <catch2/catch.hpp>
#include <memory>

#include "absl/strings/str_cat.h"
#include "mpo/rpc/server_host.h"
#include "services/orchestrator/engine_fixture.h"

namespace mpo::orchestrator {
namespace {

// A real server on a free port over an engine with its threads running.
struct Served {
  Served() {
    run.options.policy.meta_every = 2;
    run.Open();
    run.engine->Start();
    service = std::make_unique<OrchestratorService>(*run.engine);
    auto started = rpc::ServerHost::Start({}, {service.get()});
    REQUIRE(started.ok());
    host = *std::move(started);
    stub = v1::OrchestratorService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", host->port()),
                            grpc::InsecureChannelCredentials()));
  }
  ~Served() {
    run.engine->Shutdown();
    host->Stop();
  }

  // Calls `method` and returns its status.
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::OrchestratorService::Stub::*method)(
                        grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(20));
    return (stub.get()->*method)(&context, request, response);
  }

  v1::LeaseWorkResponse Lease(int64_t wait_seconds = 0) {
    v1::LeaseWorkRequest request;
    request.set_member_id("actor#1");
    request.mutable_wait()->set_seconds(wait_seconds);
    v1::LeaseWorkResponse response;
    const grpc::Status status = Call(&Stub::LeaseWork, request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }

  static v1::CompleteWorkRequest Completed(const v1::WorkUnit& unit) {
    v1::CompleteWorkRequest request;
    request.set_member_id("actor#1");
    request.set_unit_id(unit.id());
    request.set_lease_epoch(unit.lease_epoch());
    auto* success = request.mutable_success();
    success->mutable_generation()->set_nanos(500000000);
    for (const v1::Sample& sample : unit.samples()) {
      v1::SampleOutcome* outcome = success->add_outcomes();
      outcome->set_sample_key(sample.key());
      outcome->set_text("text");
      outcome->set_response_tokens(5);
      outcome->set_finish_reason(v1::FINISH_REASON_STOP);
      outcome->mutable_base()->set_subject_gain(6.5);
      v1::Verdict* verdict = outcome->mutable_verdict();
      verdict->set_rubric_sha256(unit.rubric_sha256());
      verdict->mutable_scored()->set_raw(4);
      verdict->mutable_scored()->set_maximum(10);
      verdict->mutable_scored()->set_reward(0.4);
    }
    return request;
  }

  using Stub = v1::OrchestratorService::Stub;
  TestRun run;
  std::unique_ptr<OrchestratorService> service;
  std::unique_ptr<rpc::ServerHost> host;
  std::unique_ptr<Stub> stub;
};

}  // namespace

TEST_CASE("OrchestratorService carries a step from lease to commit",
          "[service]") {
  Served served;
  using Stub = Served::Stub;
  v1::RegisterRequest join;
  join.set_role(v1::ROLE_ROLLOUT_ACTOR);
  join.set_name("actor");
  join.set_incarnation("1");
  join.set_config_sha256("config");
  v1::RegisterResponse joined;
  REQUIRE(served.Call(&Stub::Register, join, &joined).ok());
  CHECK(joined.member_id() == "actor#1");
  CHECK(joined.ttl().seconds() == 10);
  CHECK(joined.run_id() == "r");
  for (int i = 0; i < 2; ++i) {
    const v1::LeaseWorkResponse leased = served.Lease(5);
    REQUIRE(leased.has_unit());
    CHECK(leased.lease().seconds() == 10);
    CHECK(leased.unit().sampling().max_new_tokens() == 9);
    CHECK(leased.unit().kind() == v1::WORK_KIND_TRAINING);
    v1::HeartbeatRequest beat;
    beat.set_member_id("actor#1");
    beat.add_unit_ids(leased.unit().id());
    beat.add_unit_ids("train/9/9");
    v1::HeartbeatResponse beaten;
    REQUIRE(served.Call(&Stub::Heartbeat, beat, &beaten).ok());
    REQUIRE(beaten.lost_unit_ids_size() == 1);
    v1::CompleteWorkResponse recorded;
    REQUIRE(served
                .Call(&Stub::CompleteWork, Served::Completed(leased.unit()),
                      &recorded)
                .ok());
    CHECK(recorded.recorded() == 2);
  }
  v1::AssignBatchRequest ask;
  ask.set_step(1);
  ask.mutable_wait()->set_seconds(10);
  v1::AssignBatchResponse assigned;
  REQUIRE(served.Call(&Stub::AssignBatch, ask, &assigned).ok());
  CHECK(assigned.batch().sample_keys_size() == 4);
  v1::CommitStepRequest commit;
  commit.set_step(1);
  commit.set_weights_sha256(Sha256Hex("w"));
  (*commit.mutable_metrics())["kl"] = 0.25;
  v1::CommitStepResponse committed;
  REQUIRE(served.Call(&Stub::CommitStep, commit, &committed).ok());
  CHECK_FALSE(committed.duplicate());
  REQUIRE(served.Call(&Stub::CommitStep, commit, &committed).ok());
  CHECK(committed.duplicate());
  v1::ListStepsResponse steps;
  REQUIRE(served.Call(&Stub::ListSteps, v1::ListStepsRequest(), &steps).ok());
  CHECK(steps.steps(0).state() == "committed");
  CHECK(steps.steps(0).metrics().at("kl") == 0.25);
  CHECK(steps.steps(0).metrics().at("proxy") == Approx(4));
  CHECK(steps.steps(0).seconds().at("generation") == Approx(1));
  v1::ListSamplesRequest of_step;
  of_step.set_step(1);
  of_step.set_kind(v1::WORK_KIND_TRAINING);
  v1::ListSamplesResponse samples;
  REQUIRE(served.Call(&Stub::ListSamples, of_step, &samples).ok());
  REQUIRE(samples.samples_size() == 4);
  CHECK(samples.samples(0).state() == "complete");
  CHECK(samples.samples(0).gold() == 6.5);
  CHECK(samples.samples(0).used_in_step() == 1);
  CHECK(samples.samples(0).outcome().verdict().scored().raw() == 4);
}

TEST_CASE("OrchestratorService answers bad calls with the promised codes",
          "[service]") {
  Served served;
  using Stub = Served::Stub;
  using grpc::StatusCode;
  v1::RegisterRequest join;
  v1::RegisterResponse joined;
  CHECK(served.Call(&Stub::Register, join, &joined).error_code() ==
        StatusCode::INVALID_ARGUMENT);
  v1::CompleteWorkRequest work;
  v1::CompleteWorkResponse recorded;
  CHECK(served.Call(&Stub::CompleteWork, work, &recorded).error_code() ==
        StatusCode::INVALID_ARGUMENT);
  work.mutable_failure()->set_detail("x");
  CHECK(served.Call(&Stub::CompleteWork, work, &recorded).error_code() ==
        StatusCode::FAILED_PRECONDITION);
  v1::AssignBatchRequest ask;
  ask.set_step(3);
  v1::AssignBatchResponse assigned;
  CHECK(served.Call(&Stub::AssignBatch, ask, &assigned).error_code() ==
        StatusCode::FAILED_PRECONDITION);
  v1::ListSamplesResponse samples;
  CHECK(served.Call(&Stub::ListSamples, v1::ListSamplesRequest(), &samples)
            .error_code() == StatusCode::INVALID_ARGUMENT);
  v1::HeartbeatRequest beat;
  beat.set_member_id("nobody");
  v1::HeartbeatResponse beaten;
  CHECK(served.Call(&Stub::Heartbeat, beat, &beaten).error_code() ==
        StatusCode::NOT_FOUND);
}

TEST_CASE("OrchestratorService administers run and rubrics", "[service]") {
  Served served;
  using Stub = Served::Stub;
  v1::ProposeRubricRequest propose;
  propose.mutable_rubric()->set_id("essay");
  v1::ProposeRubricResponse proposed;
  CHECK_FALSE(served.Call(&Stub::ProposeRubric, propose, &proposed).ok());
  v1::GetRubricRequest which;
  which.set_version(0);
  v1::GetRubricResponse got;
  REQUIRE(served.Call(&Stub::GetRubric, which, &got).ok());
  CHECK(got.rubric().criteria_size() == 2);
  *propose.mutable_rubric() = got.rubric();
  propose.mutable_rubric()->set_id("other");
  REQUIRE(served.Call(&Stub::ProposeRubric, propose, &proposed).ok());
  v1::ActivateRubricRequest activate;
  activate.set_rubric_sha256(proposed.rubric_sha256());
  v1::ActivateRubricResponse activated;
  REQUIRE(served.Call(&Stub::ActivateRubric, activate, &activated).ok());
  v1::ListRubricsResponse listed;
  REQUIRE(
      served.Call(&Stub::ListRubrics, v1::ListRubricsRequest(), &listed).ok());
  REQUIRE(listed.versions_size() == 2);
  CHECK(listed.versions(1).state() == "active");
  CHECK(listed.versions(1).origin() == "operator");
  v1::RollbackRubricResponse back;
  REQUIRE(served.Call(&Stub::RollbackRubric, v1::RollbackRubricRequest(), &back)
              .ok());
  CHECK(back.rubric_sha256() == listed.versions(0).rubric_sha256());
  v1::PauseRunRequest pause;
  pause.set_reason("lunch");
  v1::PauseRunResponse paused;
  REQUIRE(served.Call(&Stub::PauseRun, pause, &paused).ok());
  CHECK_FALSE(served.Lease().has_unit());
  v1::ResumeRunResponse resumed;
  REQUIRE(served.Call(&Stub::ResumeRun, v1::ResumeRunRequest(), &resumed).ok());
  CHECK(served.Lease(5).has_unit());
  v1::StopRunResponse stopped;
  REQUIRE(served.Call(&Stub::StopRun, v1::StopRunRequest(), &stopped).ok());
}

TEST_CASE("WatchRun tells the state now and at each change", "[service]") {
  Served served;
  grpc::ClientContext context;
  auto reader = served.stub->WatchRun(&context, v1::WatchRunRequest());
  v1::WatchRunResponse status;
  REQUIRE(reader->Read(&status));
  CHECK(status.phase() == v1::RUN_PHASE_GENERATING);
  CHECK(status.total_steps() == 4);
  REQUIRE(served.run.engine->PauseRun("lunch").ok());
  while (status.reason().empty()) REQUIRE(reader->Read(&status));
  CHECK(status.phase() == v1::RUN_PHASE_PAUSED);
  SECTION("the caller leaves") {
    context.TryCancel();
    while (reader->Read(&status)) {
    }
    CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  SECTION("the orchestrator ends") {
    served.run.engine->Shutdown();
    while (reader->Read(&status)) {
    }
    CHECK(reader->Finish().ok());
  }
}

TEST_CASE("A waiting LeaseWork ends with its caller or the process",
          "[service]") {
  Served served;
  REQUIRE(served.run.engine->PauseRun("lunch").ok());
  v1::LeaseWorkRequest request;
  request.set_member_id("actor#1");
  request.mutable_wait()->set_seconds(50);
  v1::LeaseWorkResponse response;
  SECTION("the caller's deadline") {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(50));
    CHECK(served.stub->LeaseWork(&context, request, &response).error_code() ==
          grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  SECTION("shutdown") {
    std::jthread ender([&served] { served.run.engine->Shutdown(); });
    grpc::ClientContext context;
    CHECK(served.stub->LeaseWork(&context, request, &response).error_code() ==
          grpc::StatusCode::UNAVAILABLE);
  }
}

}  // namespace mpo::orchestrator
