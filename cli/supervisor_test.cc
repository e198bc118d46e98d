// SPDX-License-Identifier: Apache-2.0
#include "cli/supervisor.h"

#include <catch2/catch.hpp>
#include <csignal>

#include "cli/fake_processes.h"

namespace mpo::cli {
namespace {

using Kind = Supervisor::Event::Kind;

struct Fixture {
  FakeProcesses processes;
  FakeClock clock;
  Supervisor supervisor{processes,
                        clock,
                        {.first_backoff = absl::Seconds(1),
                         .longest_backoff = absl::Seconds(4),
                         .stable_after = absl::Seconds(60),
                         .budget = 3,
                         .window = absl::Minutes(10),
                         .drain_deadline = absl::Seconds(30)}};
  std::vector<Supervisor::Event> events;

  void Start(const std::string& name, int stage = 0,
             const std::string& group = "") {
    REQUIRE(supervisor
                .Start({.name = name,
                        .argv = {name},
                        .environment = {},
                        .log = "logs/" + name + ".log",
                        .drain_stage = stage,
                        .restart_group = group})
                .ok());
  }
  absl::Status Tick(absl::Duration after = absl::ZeroDuration()) {
    clock.Advance(after);
    return supervisor.Tick(events);
  }
};

}  // namespace

TEST_CASE("Supervisor restarts a process that ended after its backoff",
          "[cli]") {
  Fixture f;
  f.Start("actor-0");
  f.processes.End("actor-0", {.signal = SIGKILL});
  REQUIRE(f.Tick().ok());
  REQUIRE(f.events.size() == 1);
  CHECK(f.events[0].kind == Kind::kEnded);
  CHECK(f.events[0].how == ProcessExit{.signal = SIGKILL});
  CHECK(f.supervisor.Running().empty());

  REQUIRE(f.Tick(absl::Milliseconds(999)).ok());
  CHECK(f.processes.started.size() == 1);
  REQUIRE(f.Tick(absl::Milliseconds(1)).ok());
  CHECK(f.processes.started.size() == 2);
  CHECK(f.events.back().kind == Kind::kRestarted);
  CHECK(f.supervisor.restarts().at("actor-0") == 1);
  CHECK(f.supervisor.Running().count("actor-0") == 1);
}

TEST_CASE("Supervisor restarts a group as a whole, once", "[cli]") {
  Fixture f;
  f.Start("policy_learner", 1, "learner");
  f.Start("learner-rank-1", 2, "learner");
  f.Start("learner-rank-2", 2, "learner");
  f.Start("actor-0");
  f.processes.End("learner-rank-1", {.signal = SIGKILL});
  REQUIRE(f.Tick().ok());
  // A stopped process, or one that waits for the one that is gone, ends too.
  CHECK(f.processes.signals ==
        std::vector<std::pair<int, int>>{
            {f.processes.pids["policy_learner"], SIGKILL},
            {f.processes.pids["learner-rank-2"], SIGKILL}});
  REQUIRE(f.Tick(absl::Seconds(1)).ok());
  // The others' ends, seen when the first runs again, do not fell it anew.
  f.processes.End("policy_learner", {.signal = SIGKILL});
  f.processes.End("learner-rank-2", {.code = 1});
  REQUIRE(f.Tick().ok());
  REQUIRE(f.Tick(absl::Seconds(1)).ok());
  CHECK(f.processes.signals.size() == 2);
  CHECK(f.supervisor.Running().size() == 4);
  for (const char* name :
       {"policy_learner", "learner-rank-1", "learner-rank-2"}) {
    CHECK(f.supervisor.restarts().at(name) == 1);
  }
  CHECK(f.supervisor.restarts().count("actor-0") == 0);
  // The next loss is one of its own.
  f.processes.End("policy_learner", {.code = 1});
  REQUIRE(f.Tick().ok());
  CHECK(f.processes.signals.size() == 4);
}

TEST_CASE("Supervisor doubles the backoff and forgets it after a stable time",
          "[cli]") {
  Fixture f;
  f.Start("a");
  const auto backoff_after = [&](absl::Duration lived) {
    f.clock.Advance(lived);
    f.processes.End("a", {.code = 1});
    REQUIRE(f.Tick().ok());
    const absl::Duration backoff = f.events.back().backoff;
    REQUIRE(f.Tick(backoff).ok());
    return backoff;
  };
  CHECK(backoff_after(absl::Seconds(1)) == absl::Seconds(1));
  CHECK(backoff_after(absl::Seconds(1)) == absl::Seconds(2));
  CHECK(backoff_after(absl::Seconds(61)) == absl::Seconds(1));
}

TEST_CASE("Supervisor gives up when the restart budget is spent", "[cli]") {
  Fixture f;
  f.Start("a");
  for (int i = 0; i < 3; ++i) {
    f.processes.End("a", {.code = 1});
    REQUIRE(f.Tick().ok());
    REQUIRE(f.Tick(absl::Seconds(4)).ok());
  }
  f.processes.End("a", {.code = 1});
  const absl::Status status = f.Tick();
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("exit code 1") &&
                                                Catch::Contains("3 restarts") &&
                                                Catch::Contains("logs/a.log"));
}

TEST_CASE("Supervisor forgets restarts that are older than the window",
          "[cli]") {
  Fixture f;
  f.Start("a");
  for (int i = 0; i < 10; ++i) {
    f.processes.End("a", {.code = 1});
    REQUIRE(f.Tick(absl::Minutes(11)).ok());
    REQUIRE(f.Tick(absl::Seconds(4)).ok());
  }
  CHECK(f.supervisor.restarts().at("a") == 10);
}

TEST_CASE("Supervisor does not restart a process that calls its input bad",
          "[cli]") {
  Fixture f;
  f.Start("a");
  f.processes.End("a", {.code = 2});
  const absl::Status status = f.Tick();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("logs/a.log"));
}

TEST_CASE("Supervisor passes on that a process cannot be started", "[cli]") {
  Fixture f;
  f.processes.broken = {"b"};
  CHECK(absl::IsNotFound(f.supervisor.Start(
      {.name = "b", .argv = {"b"}, .environment = {}, .log = "b.log"})));
  f.Start("a");
  f.processes.End("a", {.code = 1});
  REQUIRE(f.Tick().ok());
  f.processes.broken = {"a"};
  CHECK(absl::IsNotFound(f.Tick(absl::Seconds(1))));
}

TEST_CASE("Supervisor drains stage by stage and restarts nothing then",
          "[cli]") {
  Fixture f;
  f.Start("orchestrator", 2);
  f.Start("learner", 1);
  f.Start("actor-0", 0);
  f.Start("actor-1", 0);
  f.supervisor.BeginDrain();
  f.supervisor.BeginDrain();
  using Signals = std::vector<std::pair<int, int>>;
  CHECK(f.processes.signals == Signals{{102, SIGTERM}, {103, SIGTERM}});
  f.processes.End("actor-0", {});
  REQUIRE(f.Tick().ok());
  CHECK(f.processes.signals.size() == 2);
  f.processes.End("actor-1", {.code = 1});
  REQUIRE(f.Tick().ok());
  CHECK(f.processes.signals.back() == std::pair(101, SIGTERM));
  f.processes.End("learner", {});
  REQUIRE(f.Tick().ok());
  CHECK(f.processes.signals.back() == std::pair(100, SIGTERM));
  CHECK_FALSE(f.supervisor.AllGone());
  f.processes.End("orchestrator", {});
  REQUIRE(f.Tick(absl::Minutes(1)).ok());
  CHECK(f.supervisor.AllGone());
  CHECK(f.supervisor.restarts().empty());
}

TEST_CASE("Supervisor kills what outlives the drain's deadline", "[cli]") {
  Fixture f;
  f.Start("learner", 1);
  f.Start("actor-0", 0);
  f.supervisor.BeginDrain();
  REQUIRE(f.Tick(absl::Seconds(30)).ok());
  using Signals = std::vector<std::pair<int, int>>;
  CHECK(f.processes.signals ==
        Signals{{101, SIGTERM}, {100, SIGKILL}, {101, SIGKILL}});
  CHECK(f.events.back().kind == Kind::kKilled);
}

TEST_CASE("Supervisor drains a process that was waiting for its restart",
          "[cli]") {
  Fixture f;
  f.Start("a");
  f.processes.End("a", {.code = 1});
  REQUIRE(f.Tick().ok());
  f.supervisor.BeginDrain();
  REQUIRE(f.Tick(absl::Minutes(1)).ok());
  CHECK(f.processes.started.size() == 1);
  CHECK(f.supervisor.AllGone());
}

}  // namespace mpo::cli
