// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/meta_reviewer.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "mpo/rpc/channel.h"
#include "mpo/rpc/server_host.h"

namespace mpo::orchestrator {
namespace {

// Answers with progress and the request's rubric, or as told.
class FakeMetaServer final : public v1::MetaRewardService::Service {
 public:
  grpc::Status Refine(grpc::ServerContext* context,
                      const v1::RefineRequest* request,
                      grpc::ServerWriter<v1::RefineResponse>* writer) override {
    seen = *request;
    if (!status.ok()) return status;
    v1::RefineResponse response;
    response.mutable_progress()->set_phase("analyse");
    writer->Write(response);
    while (hang && !context->IsCancelled()) std::this_thread::yield();
    if (silent) return grpc::Status::OK;
    auto* proposal = response.mutable_proposal();
    *proposal->mutable_rubric() = request->rubric();
    if (spoil) proposal->mutable_rubric()->clear_aggregation();
    auto* change = proposal->add_changes();
    change->set_action("add");
    change->set_criterion("x");
    change->set_reason("why");
    proposal->add_analyses("an analysis");
    proposal->set_memory("m2");
    writer->Write(response);
    return grpc::Status::OK;
  }
  v1::RefineRequest seen;
  grpc::Status status;
  bool silent = false;
  bool spoil = false;
  std::atomic<bool> hang = false;
};

}  // namespace

TEST_CASE("MetaReviewer carries a refinement there and back", "[meta]") {
  FakeMetaServer server;
  auto host = rpc::ServerHost::Start({}, {&server});
  REQUIRE(host.ok());
  MetaReviewer reviewer(
      rpc::MakeChannel(absl::StrCat("127.0.0.1:", (*host)->port())),
      absl::Seconds(20));
  RefinementRequest request;
  request.id = std::string("r/refinement/4");
  request.memory = std::string("m1");
  request.rubric.id = std::string("essay");
  EvidenceItem item;
  item.response = std::string("text");
  item.verdict.scored = true;
  item.base_mean_logprob = -2;
  request.recent = {item, item};
  request.baseline = {item};
  SECTION("a proposal") {
    const auto proposal = reviewer.Ask(request, {});
    INFO(proposal.status());
    REQUIRE(proposal.ok());
    CHECK(proposal->rubric == request.rubric);
    CHECK(proposal->changes[0].reason == "why");
    CHECK(proposal->analyses.size() == 1);
    CHECK(proposal->memory == "m2");
    CHECK(server.seen.recent_size() == 2);
    CHECK(server.seen.baseline(0).response() == "text");
    CHECK(server.seen.baseline(0).base_mean_logprob() == -2);
    CHECK(server.seen.memory() == "m1");
  }
  SECTION("an error keeps its code") {
    server.status = {grpc::StatusCode::FAILED_PRECONDITION, "not valid"};
    CHECK(absl::IsFailedPrecondition(reviewer.Ask(request, {}).status()));
  }
  SECTION("a stream without a proposal is unavailable") {
    server.silent = true;
    CHECK(absl::IsUnavailable(reviewer.Ask(request, {}).status()));
  }
  SECTION("a proposal that is not understood is unavailable") {
    server.spoil = true;
    CHECK(absl::IsUnavailable(reviewer.Ask(request, {}).status()));
  }
  SECTION("a stop breaks it off") {
    server.hang = true;
    std::stop_source stop;
    std::jthread stopper([&stop] { stop.request_stop(); });
    CHECK(absl::IsCancelled(reviewer.Ask(request, stop.get_token()).status()));
    server.hang = false;
  }
}

}  // namespace mpo::orchestrator
