// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/rendezvous.h"

#include <catch2/catch.hpp>
#include <thread>

#include "absl/strings/str_cat.h"

namespace mpo::collective {
namespace {

using Catch::Contains;

// The answer of one callback.
struct Answer {
  Rendezvous::Done Callback() {
    return [this](absl::StatusOr<std::string> answer) {
      ++calls;
      value = std::move(answer);
    };
  }
  std::string message() const { return std::string(value.status().message()); }
  int calls = 0;
  absl::StatusOr<std::string> value = absl::UnknownError("none yet");
};

Rendezvous::Joining Rank(int rank) {
  return {.rank = rank,
          .ranks = 2,
          .config_sha256 = "c0",
          .incarnation = absl::StrCat("i", rank),
          .beats = rank > 0};
}

struct Fixture {
  FakeClock clock;
  Rendezvous rendezvous{{.ranks = 2, .config_sha256 = "c0"}, clock};
  Answer zero, one;
  void JoinAll() {
    rendezvous.Join(Rank(0), zero.Callback());
    rendezvous.Join(Rank(1), one.Callback());
    REQUIRE(one.value.ok());
  }
};

TEST_CASE("Joining is answered with the group once all ranks are there",
          "[collective]") {
  Fixture f;
  f.rendezvous.Join(Rank(0), f.zero.Callback());
  CHECK(f.zero.calls == 0);
  CHECK(f.rendezvous.Missing() == "1");
  f.rendezvous.Join(Rank(1), f.one.Callback());
  REQUIRE(f.zero.value.ok());
  CHECK(*f.zero.value == f.rendezvous.group());
  CHECK(*f.one.value == f.rendezvous.group());
  CHECK(f.rendezvous.Missing().empty());
  Answer again;
  f.rendezvous.Join(Rank(1), again.Callback());
  CHECK(again.value.ok());
  CHECK(f.zero.calls == 1);
}

TEST_CASE("Two groups never have the same name", "[collective]") {
  FakeClock clock;
  CHECK(Rendezvous({}, clock).group() != Rendezvous({}, clock).group());
}

TEST_CASE("A rank that does not fit is refused and the group lives on",
          "[collective]") {
  Fixture f;
  Rendezvous::Joining joining = Rank(1);
  SECTION("another configuration") {
    joining.config_sha256 = "c1";
    f.rendezvous.Join(joining, f.one.Callback());
    CHECK(absl::IsFailedPrecondition(f.one.value.status()));
    CHECK_THAT(f.one.message(),
               Contains("rank 1 has configuration c1, rank 0 has c0"));
  }
  SECTION("another number of ranks") {
    joining.ranks = 3;
    f.rendezvous.Join(joining, f.one.Callback());
    CHECK(absl::IsFailedPrecondition(f.one.value.status()));
    CHECK_THAT(f.one.message(), Contains("rank 1 expects 3 ranks"));
  }
  SECTION("no such rank") {
    joining.rank = 2;
    f.rendezvous.Join(joining, f.one.Callback());
    CHECK(absl::IsInvalidArgument(f.one.value.status()));
    CHECK_THAT(f.one.message(), Contains("expected a rank in [0, 2), got 2"));
  }
  CHECK(f.rendezvous.ended().ok());
}

TEST_CASE("Who waits for the others to join may take long and come again",
          "[collective]") {
  Fixture f;
  f.rendezvous.Join(Rank(1), f.one.Callback());
  f.clock.Advance(absl::Minutes(4));
  f.rendezvous.Check();
  Answer again;
  Rendezvous::Joining joining = Rank(1);
  joining.incarnation = "another";
  f.rendezvous.Join(joining, again.Callback());
  CHECK(again.calls == 0);
  f.rendezvous.Join(Rank(0), f.zero.Callback());
  f.rendezvous.Check();
  CHECK(again.value.ok());
  CHECK(f.rendezvous.ended().ok());
}

TEST_CASE("A rank that was started again ends the group", "[collective]") {
  Fixture f;
  f.JoinAll();
  Answer waiting, again;
  f.rendezvous.Get("key", waiting.Callback());
  Rendezvous::Joining joining = Rank(1);
  joining.incarnation = "another";
  f.rendezvous.Join(joining, again.Callback());
  for (const Answer* answer : {&waiting, &again}) {
    CHECK(absl::IsUnavailable(answer->value.status()));
    CHECK(answer->message() == "rank 1 was started again");
  }
}

TEST_CASE("Entering is answered once the last rank has entered",
          "[collective]") {
  Fixture f;
  f.JoinAll();
  Answer zero, one;
  f.rendezvous.Enter({0, 1, "all_reduce of x", 8}, zero.Callback());
  CHECK(zero.calls == 0);
  f.rendezvous.Enter({1, 1, "all_reduce of x", 8}, one.Callback());
  CHECK(zero.value.ok());
  CHECK(one.value.ok());
}

TEST_CASE("Ranks that enter different operations end the group",
          "[collective]") {
  Fixture f;
  f.JoinAll();
  Answer zero, one;
  f.rendezvous.Enter({0, 1, "all_reduce of x", 8}, zero.Callback());
  f.rendezvous.Enter({1, 1, "all_reduce of x", 4}, one.Callback());
  CHECK(absl::IsInternal(zero.value.status()));
  CHECK_THAT(one.message(),
             Contains("rank 1 entered 'all_reduce of x' (number 1) with 4 "
                      "bytes, rank 0") &&
                 Contains("with 8"));
}

TEST_CASE("A rank that falls silent ends the group and is named",
          "[collective]") {
  Fixture f;
  f.JoinAll();
  Answer waiting;
  f.rendezvous.Enter({0, 1, "all_reduce of x", 8}, waiting.Callback());
  f.clock.Advance(absl::Seconds(9));
  f.rendezvous.Beat(1, 1);
  f.clock.Advance(absl::Seconds(9));
  f.rendezvous.Check();
  CHECK(waiting.calls == 0);
  f.clock.Advance(absl::Seconds(2));
  f.rendezvous.Check();
  CHECK(absl::IsUnavailable(waiting.value.status()));
  CHECK_THAT(waiting.message(), Contains("rank 1 was not heard of for 11s"));
}

TEST_CASE("A rank that lives but keeps the others waiting is named",
          "[collective]") {
  Fixture f;
  f.JoinAll();
  Answer first, waiting;
  f.rendezvous.Enter({0, 1, "all_reduce of x", 8}, first.Callback());
  f.rendezvous.Enter({1, 1, "all_reduce of x", 8}, first.Callback());
  f.rendezvous.Enter({0, 2, "all_gather of y", 8, absl::Seconds(20)},
                     waiting.Callback());
  const auto pass = [&](int seconds, int64_t progress) {
    for (int i = 0; i < seconds; ++i) {
      f.clock.Advance(absl::Seconds(1));
      f.rendezvous.Beat(1, progress);
      f.rendezvous.Check();
    }
  };
  // It gets on with its work, so it may take its time.
  for (int progress = 1; progress <= 5; ++progress) pass(15, progress);
  CHECK(waiting.calls == 0);
  pass(10, 5);
  CHECK(absl::IsDeadlineExceeded(waiting.value.status()));
  CHECK_THAT(waiting.message(),
             Contains("rank 1 lives but has not entered 'all_gather of y' "
                      "(number 2) within 20s; its last was 'all_reduce of x' "
                      "(number 1)"));
}

TEST_CASE("A key is waited for, replaced and forgotten", "[collective]") {
  Fixture f;
  Answer early, late, gone;
  f.rendezvous.Get("a/1", early.Callback());
  CHECK(early.calls == 0);
  REQUIRE(f.rendezvous.Put("a/1", "x").ok());
  CHECK(*early.value == "x");
  REQUIRE(f.rendezvous.Put("a/1", "y").ok());
  f.rendezvous.Get("a/1", late.Callback());
  CHECK(*late.value == "y");
  REQUIRE(f.rendezvous.Put("b", "z").ok());
  f.rendezvous.Drop("a/");
  const auto ticket = f.rendezvous.Get("a/1", gone.Callback());
  CHECK(gone.calls == 0);
  f.rendezvous.Cancel(ticket);
  f.rendezvous.Cancel(ticket);
  CHECK(gone.calls == 1);
  CHECK(absl::IsCancelled(gone.value.status()));
}

TEST_CASE("The store is bounded", "[collective]") {
  Fixture f;
  const std::string large(Rendezvous::kMaxValueBytes, 'x');
  CHECK(absl::IsResourceExhausted(f.rendezvous.Put("k", large + "x")));
  const int64_t room = Rendezvous::kMaxStoreBytes / Rendezvous::kMaxValueBytes;
  for (int64_t i = 0; i < room; ++i) {
    REQUIRE(f.rendezvous.Put(std::to_string(i), large).ok());
  }
  const int64_t rest =
      Rendezvous::kMaxStoreBytes - room * Rendezvous::kMaxValueBytes;
  REQUIRE(f.rendezvous.Put("rest", std::string(rest, 'x')).ok());
  CHECK(absl::IsResourceExhausted(f.rendezvous.Put("k", "x")));
  f.rendezvous.Drop("0");
  CHECK(f.rendezvous.Put("k", "x").ok());
}

TEST_CASE("The end reaches who waits and who comes later", "[collective]") {
  Answer end, waiting, later;
  {
    Fixture f;
    f.rendezvous.OnEnd(end.Callback());
    f.rendezvous.Get("key", waiting.Callback());
    f.rendezvous.End(absl::UnavailableError("rank 1 is gone"));
    f.rendezvous.End(absl::UnavailableError("too late"));
    f.rendezvous.Get("key", later.Callback());
    CHECK(f.rendezvous.Put("key", "x").message() == "rank 1 is gone");
  }
  for (const Answer* answer : {&end, &waiting, &later}) {
    CHECK(answer->calls == 1);
    CHECK(answer->message() == "rank 1 is gone");
  }
}

TEST_CASE("A local rank waits, and its waits have deadlines", "[collective]") {
  Fixture f;
  LocalMembership zero(f.rendezvous, 0), one(f.rendezvous, 1);
  const absl::Status alone = zero.Join("c0", absl::Milliseconds(1));
  CHECK(absl::IsDeadlineExceeded(alone));
  CHECK_THAT(std::string(alone.message()),
             Contains("of 2 ranks these did not join within 1ms: 1"));
  absl::Status joined;
  std::jthread other([&] { joined = one.Join("c0", absl::Seconds(60)); });
  CHECK(zero.Join("c0", absl::Seconds(60)).ok());
  other.join();
  CHECK(joined.ok());
  CHECK(absl::IsDeadlineExceeded(
      zero.Get("key", absl::Milliseconds(1)).status()));
  std::stop_source stop;
  stop.request_stop();
  CHECK(absl::IsCancelled(
      zero.Get("key", absl::Seconds(60), stop.get_token()).status()));
  REQUIRE(one.Put("key", "x").ok());
  CHECK(*zero.Get("key", absl::Seconds(60)) == "x");
  CHECK(zero.AwaitEnd(absl::Milliseconds(1)).ok());
  f.rendezvous.End(absl::UnavailableError("rank 1 is gone"));
  CHECK(zero.AwaitEnd(absl::Seconds(60)).message() == "rank 1 is gone");
  CHECK(absl::IsUnavailable(zero.Enter({0, 1, "barrier of x", 0})));
}

}  // namespace
}  // namespace mpo::collective
