// SPDX-License-Identifier: Apache-2.0
#include <prometheus/text_serializer.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <memory>
#include <thread>

#include "mpo/rpc/channel.h"
#include "mpo/rpc/grpc_status.h"
#include "mpo/rpc/health.h"
#include "mpo/rpc/server_host.h"
#include "mpo/rpc/termination.h"
#include "mpo/v1/reward_service.grpc.pb.h"

namespace mpo::rpc {
namespace {

// Answers GetJudges with UNAVAILABLE `failures` times, then with one judge.
class FlakyService final : public v1::RewardService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetJudges(
      grpc::CallbackServerContext* context, const v1::GetJudgesRequest*,
      v1::GetJudgesResponse* response) override {
    auto* reactor = context->DefaultReactor();
    if (failures-- > 0) {
      reactor->Finish({grpc::StatusCode::UNAVAILABLE, "not yet"});
    } else {
      response->add_judges()->set_name("embedded");
      reactor->Finish(grpc::Status::OK);
    }
    return reactor;
  }
  std::atomic<int> failures{0};
};

std::string Address(const ServerHost& host) {
  return "127.0.0.1:" + std::to_string(host.port());
}

}  // namespace

TEST_CASE("ServerHost serves health and counts calls by method and code") {
  prometheus::Registry registry;
  FlakyService service;
  {
    auto host = ServerHost::Start({.registry = &registry}, {&service});
    REQUIRE(host.ok());
    CHECK(WaitUntilHealthy(Address(**host), {}).ok());
    const auto stub = v1::RewardService::NewStub(MakeChannel(Address(**host)));
    v1::GetJudgesResponse response;
    CHECK(Call({}, [&](grpc::ClientContext& context) {
            return stub->GetJudges(&context, {}, &response);
          }).ok());
  }
  const std::string text =
      prometheus::TextSerializer().Serialize(registry.Collect());
  CHECK_THAT(text, Catch::Contains("mpo_grpc_server_handled_total{code=\"OK\","
                                   "method=\"/mpo.v1.RewardService/GetJudges\""
                                   "} 1"));
}

TEST_CASE("ServerHost names the address it could not listen on") {
  auto host = ServerHost::Start({}, {});
  REQUIRE(host.ok());
  auto second = ServerHost::Start({.address = Address(**host)}, {});
  CHECK(absl::IsUnavailable(second.status()));
  CHECK_THAT(std::string(second.status().message()),
             Catch::Contains(Address(**host)));
}

TEST_CASE("CallWithRetry tries UNAVAILABLE again until it works") {
  FlakyService service;
  service.failures = 2;
  auto host = ServerHost::Start({}, {&service});
  REQUIRE(host.ok());
  const auto stub = v1::RewardService::NewStub(MakeChannel(Address(**host)));
  v1::GetJudgesResponse response;
  CHECK(CallWithRetry({}, [&](grpc::ClientContext& context) {
          return stub->GetJudges(&context, {}, &response);
        }).ok());
  CHECK(response.judges_size() == 1);
}

TEST_CASE("Call ends at its deadline when nobody listens") {
  const auto stub =
      v1::RewardService::NewStub(MakeChannel("127.0.0.1:1"));
  v1::GetJudgesResponse response;
  const absl::Status status = Call(
      {.timeout = absl::Milliseconds(50)}, [&](grpc::ClientContext& context) {
        return stub->GetJudges(&context, {}, &response);
      });
  CHECK(absl::IsDeadlineExceeded(status));
}

TEST_CASE("Call ends with CANCELLED when stopped") {
  const auto stub =
      v1::RewardService::NewStub(MakeChannel("127.0.0.1:1"));
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  v1::GetJudgesResponse response;
  const absl::Status status =
      Call({.timeout = absl::Seconds(30), .stop = stop.get_token()},
           [&](grpc::ClientContext& context) {
             return stub->GetJudges(&context, {}, &response);
           });
  CHECK(absl::IsCancelled(status));
}

TEST_CASE("Statuses keep code and message in both directions") {
  const absl::Status status = absl::AbortedError("stale version 3");
  CHECK(FromGrpcStatus(ToGrpcStatus(status)) == status);
  CHECK(FromGrpcStatus(ToGrpcStatus(absl::OkStatus())).ok());
}

TEST_CASE("WaitForTerminationSignal returns 0 when none came") {
  BlockTerminationSignals();
  CHECK(WaitForTerminationSignal(absl::Milliseconds(1)) == 0);
  raise(SIGTERM);
  CHECK(WaitForTerminationSignal(absl::Seconds(5)) == SIGTERM);
}

}  // namespace mpo::rpc
