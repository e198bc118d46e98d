// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/rollout_actor_service.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "mpo/rpc/server_host.h"
#include "services/rollout_actor/actor_fixture.h"

namespace mpo::rollout_actor {
namespace {

// The service on a real server.
struct Served : ActorFixture {
  std::unique_ptr<RolloutActorService> service;
  std::unique_ptr<rpc::ServerHost> host;
  std::unique_ptr<v1::RolloutActorService::Stub> stub;

  Served() {
    peers.Publish(Weights(0));
    Start();
    service = std::make_unique<RolloutActorService>(*engine);
    host = *rpc::ServerHost::Start({}, {service.get()});
    stub = v1::RolloutActorService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", host->port()),
                            grpc::InsecureChannelCredentials()));
  }
  ~Served() {
    engine->Finish(absl::Seconds(30)).IgnoreError();
    host->Stop();
  }

  static void Deadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(60));
  }
  static v1::GenerateRequest Request(int prompts, int tokens) {
    v1::GenerateRequest request;
    for (int i = 0; i < prompts; ++i) {
      auto* prompt = request.add_prompts();
      prompt->set_id(absl::StrCat("p", i));
      prompt->set_text("a");
    }
    request.mutable_sampling()->set_temperature(0.8);
    request.mutable_sampling()->set_top_p(1);
    request.mutable_sampling()->set_max_new_tokens(tokens);
    request.set_seed(5);
    return request;
  }
  grpc::Status Generate(const v1::GenerateRequest& request,
                        std::vector<v1::GenerateResponse>* responses) {
    grpc::ClientContext context;
    Deadline(context);
    auto reader = stub->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (responses != nullptr) responses->push_back(response);
    }
    return reader->Finish();
  }
};

TEST_CASE("Generate streams one response a prompt, the same each time",
          "[rollout_actor]") {
  Served f;
  std::vector<v1::GenerateResponse> first;
  std::vector<v1::GenerateResponse> second;
  REQUIRE(f.Generate(f.Request(3, 8), &first).ok());
  REQUIRE(f.Generate(f.Request(3, 8), &second).ok());
  REQUIRE(first.size() == 3);
  for (int i = 0; i < 3; ++i) {
    CHECK(first[i].SerializeAsString() == second[i].SerializeAsString());
    CHECK(first[i].tokens_size() == first[i].logprobs_size());
    CHECK(first[i].finish_reason() != v1::FINISH_REASON_UNSPECIFIED);
  }
  v1::GenerateRequest base = f.Request(1, 4);
  base.set_base_model(true);
  CHECK(f.Generate(base, nullptr).ok());
}

TEST_CASE("Generate refuses no prompts, long prompts and bad sampling",
          "[rollout_actor]") {
  Served f;
  CHECK(f.Generate(v1::GenerateRequest(), nullptr).error_code() ==
        grpc::StatusCode::INVALID_ARGUMENT);
  v1::GenerateRequest request = f.Request(1, 8);
  request.mutable_prompts(0)->set_text(std::string(300, 'a'));
  const grpc::Status status = f.Generate(request, nullptr);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message().find("\"p0\" has 300 tokens") !=
        std::string::npos);
  request = f.Request(1, 0);
  CHECK(f.Generate(request, nullptr).error_code() ==
        grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("A second waiting Generate is refused and a cancelled one ends",
          "[rollout_actor]") {
  Served f;
  f.peers.HangScore(true);
  f.peers.Lease(f.Unit("training/1/0", 0));
  REQUIRE(f.peers.Await("score"));  // The generating thread is busy now.
  grpc::ClientContext waiting;
  f.Deadline(waiting);
  auto reader = f.stub->Generate(&waiting, f.Request(1, 4));
  // The first call is queued when a later one is refused.
  grpc::Status second;
  do {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(200));
    auto other = f.stub->Generate(&context, f.Request(1, 4));
    v1::GenerateResponse response;
    while (other->Read(&response)) {
    }
    second = other->Finish();
  } while (second.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  CHECK(second.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  waiting.TryCancel();
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
  f.peers.LoseLease("training/1/0");  // Lets the unit go.
}

TEST_CASE("GetStatus and Drain answer while a unit is in hand",
          "[rollout_actor]") {
  Served f;
  f.peers.HangScore(true);
  f.peers.Lease(f.Unit("training/1/0", 0));
  REQUIRE(f.peers.Await("score"));
  {
    grpc::ClientContext context;
    f.Deadline(context);
    v1::DrainResponse response;
    CHECK(f.stub->Drain(&context, v1::DrainRequest(), &response).ok());
  }
  grpc::ClientContext context;
  f.Deadline(context);
  v1::GetActorStatusResponse status;
  REQUIRE(
      f.stub->GetStatus(&context, v1::GetActorStatusRequest(), &status).ok());
  CHECK(status.unit() == "training/1/0");
  CHECK(status.draining());
  CHECK(status.generated_tokens() > 0);
  f.peers.LoseLease("training/1/0");
}

}  // namespace
}  // namespace mpo::rollout_actor
