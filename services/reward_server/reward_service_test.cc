// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/reward_service.h"

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "mpo/judge/embedded_judge.h"
#include "mpo/rpc/channel.h"
#include "mpo/rpc/server_host.h"
#include "services/reward_server/wire.h"

namespace mpo::reward_server {
namespace {

class NoRubrics final : public RubricSource {
 public:
  absl::StatusOr<Rubric> Fetch(const std::string&, std::stop_token) override {
    return absl::NotFoundError("none");
  }
};

Rubric Words() {
  Rubric rubric;
  rubric.id = "words";
  Criterion length;
  length.id = "length";
  length.text = "How long?";
  length.check = Check{.name = "words", .zero_at = 0, .saturate_at = 5};
  rubric.criteria = {length};
  return rubric;
}

struct Fixture {
  Fixture() {
    auto started =
        rpc::ServerHost::Start({.address = "127.0.0.1:0"}, {&service});
    REQUIRE(started.ok());
    host = *std::move(started);
    stub = v1::RewardService::NewStub(
        rpc::MakeChannel(absl::StrCat("127.0.0.1:", host->port())));
  }
  ~Fixture() { host->Stop(); }

  std::string Install() {
    v1::InstallRubricRequest request;
    *request.mutable_rubric() = ToProto(Words());
    v1::InstallRubricResponse response;
    grpc::ClientContext context;
    REQUIRE(stub->InstallRubric(&context, request, &response).ok());
    return response.rubric_sha256();
  }
  grpc::Status Score(const v1::ScoreRequest& request,
                     std::map<std::string, v1::ScoreResponse>& responses) {
    grpc::ClientContext context;
    const auto reader = stub->Score(&context, request);
    v1::ScoreResponse response;
    while (reader->Read(&response)) responses[response.sample_key()] = response;
    return reader->Finish();
  }

  prometheus::Registry registry;
  RewardMetrics metrics{registry};
  NoRubrics source;
  judge::EmbeddedJudge judge;
  RewardEngine engine{judge, source, metrics, Clock::Real(), {}};
  RewardService service{
      engine, [] {
        return JudgeStatus{.name = "embedded", .kind = "embedded", .model = {}};
      }};
  std::unique_ptr<rpc::ServerHost> host;
  std::unique_ptr<v1::RewardService::Stub> stub;
};

}  // namespace

TEST_CASE("Score streams one verdict an item", "[reward]") {
  Fixture f;
  v1::ScoreRequest request;
  request.set_rubric_sha256(f.Install());
  request.set_monitor_rubric_sha256(request.rubric_sha256());
  for (int i = 0; i < 20; ++i) {
    v1::ScoreRequest::Item& item = *request.add_items();
    item.set_sample_key(absl::StrCat("k", i));
    item.set_response(i == 0 ? "one two" : "one two three");
  }
  std::map<std::string, v1::ScoreResponse> responses;
  REQUIRE(f.Score(request, responses).ok());
  REQUIRE(responses.size() == 20);
  CHECK(responses["k0"].verdict().scored().raw() == 2);
  CHECK(responses["k1"].verdict().scored().raw() == 3);
  CHECK(responses["k1"].verdict().rubric_sha256() == request.rubric_sha256());
  CHECK(responses["k1"].monitor().scored().reward() == Approx(0.6));
}

TEST_CASE("Score refuses what it cannot judge", "[reward]") {
  Fixture f;
  std::map<std::string, v1::ScoreResponse> responses;
  v1::ScoreRequest request;
  CHECK(f.Score(request, responses).error_code() ==
        grpc::StatusCode::INVALID_ARGUMENT);
  request.set_rubric_sha256("unknown");
  request.add_items()->set_sample_key("k");
  CHECK(f.Score(request, responses).error_code() ==
        grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(responses.empty());
}

TEST_CASE("Rubrics are installed and given back by their digest", "[reward]") {
  Fixture f;
  const std::string sha256 = f.Install();
  v1::GetInstalledRubricRequest request;
  v1::GetInstalledRubricResponse response;
  {
    grpc::ClientContext context;
    request.set_rubric_sha256("unknown");
    CHECK(f.stub->GetRubric(&context, request, &response).error_code() ==
          grpc::StatusCode::NOT_FOUND);
  }
  {
    grpc::ClientContext context;
    request.set_rubric_sha256(sha256);
    REQUIRE(f.stub->GetRubric(&context, request, &response).ok());
    CHECK(*FromProto(response.rubric()) == Words());
  }
  {
    grpc::ClientContext context;
    v1::InstallRubricResponse installed;
    CHECK(f.stub->InstallRubric(&context, {}, &installed).error_code() ==
          grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_CASE("GetJudges tells the judge's state", "[reward]") {
  Fixture f;
  grpc::ClientContext context;
  v1::GetJudgesResponse response;
  REQUIRE(f.stub->GetJudges(&context, {}, &response).ok());
  REQUIRE(response.judges_size() == 1);
  CHECK(response.judges(0).kind() == "embedded");
  CHECK(response.judges(0).circuit() == "closed");
}

}  // namespace mpo::reward_server
