// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_reward_service.h"

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "mpo/rpc/channel.h"
#include "mpo/rpc/server_host.h"
#include "services/meta_reward_server/meta_reward_wire.h"
#include "services/meta_reward_server/review_rules.h"
#include "services/meta_reward_server/reviewer.h"

namespace mpo::meta_reward_server {
namespace {

// Waits for its stop, for the test to let go, or not at all.
class ScriptedRefiner final : public Refiner {
 public:
  absl::StatusOr<RefinementProposal> Refine(const RefinementRequest& request,
                                            const ProgressSink& progress,
                                            std::stop_token stop) override {
    progress({"analyse", 1, 1});
    MutexLock lock(mu_);
    ++calls;
    if (hold) {
      changed_.WaitFor(mu_, stop, absl::Seconds(30), [] { return false; });
      stopped = stop.stop_requested();
      changed_.NotifyAll();
      return absl::CancelledError("stopped");
    }
    if (!failure.ok()) return failure;
    RefinementProposal proposal;
    proposal.rubric = request.rubric;
    proposal.rubric.criteria.push_back(
        MakeCriterion("b", "B", "b", "words", 0, 9));
    proposal.changes = {{"add", "b", "because"}};
    proposal.memory = "m";
    return proposal;
  }

  bool WaitUntilStopped() {
    MutexLock lock(mu_);
    return changed_.WaitFor(
        mu_, std::stop_token(), absl::Seconds(30),
        [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopped; });
  }

  bool hold = false;
  bool stopped = false;
  int calls = 0;
  absl::Status failure;

 private:
  Mutex mu_;
  CondVar changed_;
};

struct Fixture {
  Fixture()
      : metrics(registry),
        engine(refiner, {}, metrics, Clock::Real()),
        service(engine, {}) {
    auto started = rpc::ServerHost::Start({}, {&service});
    REQUIRE(started.ok());
    host = *std::move(started);
    stub = v1::MetaRewardService::NewStub(
        rpc::MakeChannel(absl::StrCat("127.0.0.1:", host->port())));
  }

  prometheus::Registry registry;
  ScriptedRefiner refiner;
  MetaRewardMetrics metrics;
  RefinementEngine engine;
  MetaRewardService service;
  std::unique_ptr<rpc::ServerHost> host;
  std::unique_ptr<v1::MetaRewardService::Stub> stub;
};

Rubric ActiveRubric() {
  Rubric rubric;
  rubric.id = "essay";
  rubric.aggregation = Aggregation::kWeighted;
  rubric.criteria = {MakeCriterion("a", "A", "a", "words", 0, 9)};
  rubric.criteria[0].levels = {{0, "none"}};
  return rubric;
}

v1::RefineRequest Request(const std::string& id) {
  v1::RefineRequest request;
  request.set_refinement_id(id);
  request.set_task("essay");
  *request.mutable_rubric() = ToProto(ActiveRubric());
  v1::EvidenceItem& item = *request.add_recent();
  item.set_sample_key("s");
  item.set_response("text");
  item.mutable_verdict()->mutable_scored()->set_raw(1);
  return request;
}

struct Answer {
  std::vector<v1::RefineResponse> events;
  grpc::Status status;
};

Answer Refine(Fixture& f, const v1::RefineRequest& request) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);  // A busy machine connects late.
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(30));
  Answer answer;
  auto reader = f.stub->Refine(&context, request);
  v1::RefineResponse event;
  while (reader->Read(&event)) answer.events.push_back(event);
  answer.status = reader->Finish();
  return answer;
}

TEST_CASE("Refine streams progress, then exactly one proposal", "[meta]") {
  Fixture f;
  const Answer answer = Refine(f, Request("r"));
  REQUIRE(answer.status.ok());
  REQUIRE_FALSE(answer.events.empty());
  int proposals = 0;
  for (const auto& event : answer.events) proposals += event.has_proposal();
  CHECK(proposals == 1);
  REQUIRE(answer.events.back().has_proposal());
  const auto& proposal = answer.events.back().proposal();
  CHECK(proposal.rubric().criteria_size() == 2);
  CHECK(proposal.changes(0).reason() == "because");
  CHECK(proposal.memory() == "m");

  const Answer again = Refine(f, Request("r"));
  REQUIRE(again.status.ok());
  CHECK(again.events.back().proposal().memory() == "m");
  CHECK(f.refiner.calls == 1);
}

TEST_CASE("Refine passes the refiner's failure on and proposes nothing",
          "[meta]") {
  Fixture f;
  f.refiner.failure = absl::FailedPreconditionError("no criteria; no text");
  const Answer answer = Refine(f, Request("r"));
  CHECK(answer.status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(answer.status.error_message() == "no criteria; no text");
  for (const auto& event : answer.events) CHECK_FALSE(event.has_proposal());
}

TEST_CASE("Refine refuses requests that make no sense", "[meta]") {
  Fixture f;
  v1::RefineRequest request = Request("r");
  std::string expected;
  SECTION("no id") {
    request.clear_refinement_id();
    expected = "refinement_id";
  }
  SECTION("no evidence") {
    request.clear_recent();
    expected = "no recent responses";
  }
  SECTION("an enum left out") {
    request.mutable_rubric()->mutable_criteria(0)->clear_tier();
    expected = "criterion a: tier: expected 1..4, got 0";
  }
  SECTION("a verdict without outcome") {
    request.mutable_recent(0)->clear_verdict();
    expected = "sample s: verdict: expected scored or unscorable";
  }
  const Answer answer = Refine(f, request);
  CHECK(answer.status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK_THAT(answer.status.error_message(), Catch::Contains(expected));
  CHECK(f.refiner.calls == 0);
}

TEST_CASE("A cancelled Refine stops the refinement", "[meta]") {
  Fixture f;
  f.refiner.hold = true;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);  // A busy machine connects late.
  auto reader = f.stub->Refine(&context, Request("r"));
  v1::RefineResponse event;
  REQUIRE(reader->Read(&event));
  CHECK(event.progress().phase() == "analyse");
  context.TryCancel();
  CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
  CHECK(f.refiner.WaitUntilStopped());
}

}  // namespace
}  // namespace mpo::meta_reward_server
