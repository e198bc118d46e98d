// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/rendezvous_server.h"

#include <catch2/catch.hpp>

#include "mpo/collective/group_checks.h"
#include "mpo/rpc/channel.h"

namespace mpo::collective {
namespace {

using Catch::Contains;

constexpr absl::Duration kLong = absl::Seconds(60);

struct Fixture {
  explicit Fixture(int ranks = 2)
      : server(*RendezvousServer::Start(
            {.group = {.ranks = ranks, .config_sha256 = "c"}}, Clock::Real())),
        zero(server->rendezvous(), 0) {}

  RemoteMembership::Options Options(const std::string& incarnation) const {
    return {.address = absl::StrCat("127.0.0.1:", server->port()),
            .rank = 1,
            .ranks = 2,
            .config_sha256 = "c",
            .incarnation = incarnation};
  }
  // Both ranks join; the second one's end.
  std::unique_ptr<RemoteMembership> Join() {
    std::unique_ptr<RemoteMembership> one;
    OnEachRank(2, [&](int rank) {
      if (rank == 0) {
        CHECK(zero.Join("c", kLong).ok());
      } else {
        one = *RemoteMembership::Join(Options("i1"), kLong);
      }
    });
    return one;
  }

  std::unique_ptr<RendezvousServer> server;
  LocalMembership zero;
};

TEST_CASE("A rank elsewhere shares keys and operations with rank 0",
          "[collective]") {
  Fixture f;
  const auto one = f.Join();
  CHECK(one->rank() == 1);
  CHECK(one->ranks() == 2);
  REQUIRE(one->Put("a", "from one").ok());
  CHECK(*f.zero.Get("a", kLong) == "from one");
  absl::StatusOr<std::string> got;
  OnEachRank(2, [&](int rank) {
    if (rank == 0) {
      CHECK(f.zero.Put("b", "from zero").ok());
      CHECK(f.zero.Enter({0, 1, "barrier of x", 0}).ok());
    } else {
      got = one->Get("b", kLong);
      CHECK(one->Enter({1, 1, "barrier of x", 0}).ok());
    }
  });
  CHECK(*got == "from zero");
  CHECK(
      absl::IsDeadlineExceeded(one->Get("c", absl::Milliseconds(20)).status()));
  CHECK(one->AwaitEnd(absl::Milliseconds(1)).ok());
}

TEST_CASE("A rank with another configuration is refused at once",
          "[collective]") {
  Fixture f;
  auto options = f.Options("i1");
  options.config_sha256 = std::string(1, 'd');
  const auto refused = RemoteMembership::Join(options, kLong);
  CHECK(absl::IsFailedPrecondition(refused.status()));
  CHECK_THAT(std::string(refused.status().message()),
             Contains("rank 1 could not join the group at 127.0.0.1:") &&
                 Contains("rank 1 has configuration d, rank 0 has c"));
}

TEST_CASE("Joining a group that never fills up ends in time", "[collective]") {
  Fixture f;
  CHECK(absl::IsDeadlineExceeded(
      RemoteMembership::Join(f.Options("i1"), absl::Milliseconds(100))
          .status()));
  std::stop_source stop;
  stop.request_stop();
  CHECK(absl::IsCancelled(
      RemoteMembership::Join(f.Options("i1"), kLong, stop.get_token())
          .status()));
}

TEST_CASE("A rank that leaves ends the group with its name", "[collective]") {
  Fixture f;
  auto one = f.Join();
  one.reset();
  const absl::Status end = f.zero.AwaitEnd(kLong);
  CHECK(absl::IsUnavailable(end));
  CHECK_THAT(std::string(end.message()), Contains("rank 1 is gone"));
}

TEST_CASE("The end of a group reaches a rank elsewhere with its reason",
          "[collective]") {
  Fixture f;
  const auto one = f.Join();
  absl::Status entered;
  std::jthread waiting([&] {
    entered = one->Enter({1, 1, "barrier of x", 0});
  });
  f.server->rendezvous().End(absl::UnavailableError("rank 7 is gone"));
  CHECK(one->AwaitEnd(kLong).message() == "rank 7 is gone");
  waiting.join();
  CHECK(absl::IsUnavailable(entered));
  CHECK_THAT(std::string(entered.message()), Contains("rank 7 is gone"));
}

TEST_CASE("A rendezvous that is gone is rank 0 that is gone", "[collective]") {
  Fixture f;
  const auto one = f.Join();
  f.server.reset();
  CHECK(!one->AwaitEnd(kLong).ok());
  const absl::Status status = one->Put("a", "x");
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()), Contains("rank 0 is gone"));
}

TEST_CASE("Calls of another group are aborted", "[collective]") {
  Fixture f;
  const auto one = f.Join();
  const auto stub =
      v1::LearnerGroupService::NewStub(rpc::MakeChannel(f.Options("").address));
  v1::PutKeyRequest request;
  request.set_group("another");
  v1::PutKeyResponse response;
  const absl::Status status = rpc::Call({}, [&](grpc::ClientContext& context) {
    return stub->PutKey(&context, request, &response);
  });
  CHECK(absl::IsAborted(status));
  v1::EnterOperationRequest enter;
  enter.set_group(f.server->rendezvous().group());
  enter.set_rank(2);
  v1::EnterOperationResponse entered;
  CHECK(
      absl::IsInvalidArgument(rpc::Call({}, [&](grpc::ClientContext& context) {
        return stub->EnterOperation(&context, enter, &entered);
      })));
}

}  // namespace
}  // namespace mpo::collective
