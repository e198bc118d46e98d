// SPDX-License-Identifier: Apache-2.0
#include "cli/train_session.h"

#include <catch2/catch.hpp>
#include <csignal>

#include "absl/strings/str_join.h"
#include "cli/fake_processes.h"

namespace mpo::cli {
namespace {

using Catch::Contains;
using Outcome = TrainSession::Outcome;

class FakeRun final : public RunSource {
 public:
  std::optional<RunState> State() override { return state; }
  absl::StatusOr<std::vector<orchestrator::StepRecord>> CommittedAfter(
      int64_t step) override {
    std::vector<orchestrator::StepRecord> after;
    for (const auto& one : steps) {
      if (one.step > step) after.push_back(one);
    }
    return after;
  }
  absl::Status Resume() override {
    ++resumed;
    return resume_status;
  }

  std::optional<RunState> state;
  std::vector<orchestrator::StepRecord> steps;
  int resumed = 0;
  absl::Status resume_status;
};

class FakeScreen final : public Screen {
 public:
  void Line(const std::string& text) override { lines.push_back(text); }
  void Bar(const BarState& state) override { phase = state.phase; }
  std::string All() const { return absl::StrJoin(lines, "\n"); }

  std::vector<std::string> lines;
  std::string phase;
};

struct Fixture {
  FakeProcesses processes;
  FakeClock clock;
  Supervisor supervisor{processes, clock, {}};
  FakeRun run;
  FakeScreen screen;
  TrainSession session{supervisor,
                       run,
                       screen,
                       clock,
                       {.directory = "runs/a", .command = "mpo train a.yaml"}};

  Fixture() {
    for (const char* name : {"orchestrator", "actor-0"}) {
      REQUIRE(supervisor
                  .Start({.name = name,
                          .argv = {name},
                          .environment = {},
                          .log = std::string("logs/") + name + ".log"})
                  .ok());
    }
  }
  void Commit(int64_t step) {
    orchestrator::StepRecord record;
    record.step = step;
    record.committed = clock.Wall();
    record.metrics["proxy"] = 5;
    run.steps.push_back(record);
    run.state = RunState{.phase = "generating", .step = step, .total_steps = 4};
  }
  void EndAll() {
    processes.End("orchestrator", {});
    processes.End("actor-0", {});
  }
};

}  // namespace

TEST_CASE("TrainSession shows each step once and ends when the run is finished",
          "[cli]") {
  Fixture f;
  CHECK_FALSE(f.session.Turn(0).has_value());
  f.Commit(1);
  CHECK_FALSE(f.session.Turn(0).has_value());
  CHECK_FALSE(f.session.Turn(0).has_value());
  f.clock.Advance(absl::Seconds(10));
  f.Commit(2);
  CHECK_FALSE(f.session.Turn(0).has_value());
  REQUIRE(f.screen.lines.size() == 2);
  CHECK_THAT(f.screen.lines[1], Contains("step 2/4") && Contains("left 20s"));
  CHECK(f.screen.phase == "generating");
  f.run.state->finished = true;
  CHECK_FALSE(f.session.Turn(0).has_value());
  CHECK(f.processes.signals.size() == 2);
  f.EndAll();
  CHECK(f.session.Turn(0) == Outcome::kFinished);
}

TEST_CASE("TrainSession does not repeat the steps of an earlier session",
          "[cli]") {
  Fixture f;
  f.Commit(1);
  f.run.steps[0].committed = f.clock.Wall() - absl::Hours(1);
  f.session.Turn(0);
  CHECK(f.screen.lines.empty());
}

TEST_CASE("TrainSession drains on a signal and kills on the second", "[cli]") {
  Fixture f;
  CHECK_FALSE(f.session.Turn(SIGINT).has_value());
  CHECK(f.processes.signals.back().second == SIGTERM);
  SECTION("drained") {
    f.EndAll();
    CHECK(f.session.Turn(0) == Outcome::kInterrupted);
  }
  SECTION("killed") {
    CHECK_FALSE(f.session.Turn(SIGINT).has_value());
    CHECK(f.processes.signals.back().second == SIGKILL);
    f.EndAll();
    CHECK(f.session.Turn(0) == Outcome::kInterrupted);
  }
}

TEST_CASE("TrainSession tells of restarts and goes on", "[cli]") {
  Fixture f;
  f.Commit(1);
  f.processes.End("actor-0", {.signal = SIGKILL});
  CHECK_FALSE(f.session.Turn(0).has_value());
  CHECK_THAT(f.screen.All(), Contains("actor-0 ended with signal 9"));
  f.clock.Advance(absl::Seconds(1));
  CHECK_FALSE(f.session.Turn(0).has_value());
  CHECK_THAT(f.screen.All(), Contains("actor-0 was started again"));
}

TEST_CASE("TrainSession fails when a process is beyond repair", "[cli]") {
  Fixture f;
  f.processes.End("actor-0", {.code = 2});
  CHECK_FALSE(f.session.Turn(0).has_value());
  f.EndAll();
  CHECK(f.session.Turn(0) == Outcome::kFailed);
  CHECK_THAT(std::string(f.session.status().message()),
             Contains("logs/actor-0.log"));
}

TEST_CASE("TrainSession fails when the orchestrator is never heard of",
          "[cli]") {
  Fixture f;
  f.clock.Advance(absl::Seconds(121));
  CHECK_FALSE(f.session.Turn(0).has_value());
  f.EndAll();
  CHECK(f.session.Turn(0) == Outcome::kFailed);
  CHECK_THAT(std::string(f.session.status().message()),
             Contains("runs/a/logs/orchestrator.log"));
}

TEST_CASE("TrainSession ends in order when the run pauses itself", "[cli]") {
  Fixture f;
  f.Commit(2);
  f.session.Turn(0);
  f.run.state->paused = true;
  f.run.state->reason = "30 of 32 samples are unscorable";
  CHECK_FALSE(f.session.Turn(0).has_value());
  f.EndAll();
  CHECK(f.session.Turn(0) == Outcome::kPaused);
  CHECK_THAT(std::string(f.session.status().message()),
             Contains("30 of 32") && Contains("mpo train a.yaml"));
}

TEST_CASE("TrainSession waits through a pause of the operator", "[cli]") {
  Fixture f;
  f.Commit(2);
  f.session.Turn(0);
  f.run.state->paused = true;
  f.run.state->reason = std::string(kOperatorPause) + "lunch";
  f.session.Turn(0);
  f.session.Turn(0);
  CHECK(f.screen.lines.size() == 2);
  CHECK_THAT(f.screen.lines.back(), Contains("mpo resume --run runs/a"));
  CHECK(f.processes.signals.empty());
}

TEST_CASE("TrainSession lets a run go on that was paused when it began",
          "[cli]") {
  Fixture f;
  f.run.state = RunState{.paused = true, .reason = "judge away"};
  SECTION("it goes on") {
    f.session.Turn(0);
    f.session.Turn(0);  // The pause may still be seen for a moment.
    CHECK(f.run.resumed == 1);
    CHECK(f.processes.signals.empty());
    f.run.state->paused = false;
    f.session.Turn(0);
    f.run.state->paused = true;
    f.session.Turn(0);
    f.EndAll();
    CHECK(f.session.Turn(0) == Outcome::kPaused);
  }
  SECTION("it cannot") {
    f.run.resume_status = absl::UnavailableError("gone");
    f.session.Turn(0);
    f.EndAll();
    CHECK(f.session.Turn(0) == Outcome::kFailed);
  }
}

}  // namespace mpo::cli
