// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/orchestrator_link.h"
#include "cli/progress.h"
#include "cli/supervisor.h"
#include "mpo/base/clock.h"
#include "services/orchestrator/record.h"

namespace mpo::cli {

// Where a session sees its run. Calls do not block for long.
class RunSource {
 public:
  virtual ~RunSource() = default;
  // Nullopt until the orchestrator was heard of for the first time.
  virtual std::optional<RunState> State() = 0;
  // Committed steps after `step`.
  virtual absl::StatusOr<std::vector<orchestrator::StepRecord>> CommittedAfter(
      int64_t step) = 0;
  // Lets a paused run go on.
  virtual absl::Status Resume() = 0;
};

// Where a session writes.
class Screen {
 public:
  virtual ~Screen() = default;
  virtual void Line(const std::string& text) = 0;
  // Replaces the bar at the bottom; does nothing where there is no terminal.
  virtual void Bar(const BarState& state) = 0;
};

struct SessionOptions {
  std::string directory;  // Named in advice.
  std::string command;    // Of this session, to be given again to resume.
  // The orchestrator must have been heard of by then.
  absl::Duration start_deadline = absl::Seconds(120);
};

// One `mpo train` while its processes run: shows steps, ends in order when the
// run is finished, paused by its own rules, interrupted, or beyond repair.
// Driven by Turn; holds no thread and never sleeps. Not thread-safe.
class TrainSession {
 public:
  enum class Outcome { kFinished, kInterrupted, kPaused, kFailed };

  // The processes have been started. All must outlive the session.
  TrainSession(Supervisor& supervisor, RunSource& run, Screen& screen,
               Clock& clock, const SessionOptions& options);

  // One turn of the loop; `signal` is one that arrived, else 0. Returns the
  // outcome once every process is gone.
  std::optional<Outcome> Turn(int signal);

  // Why the outcome is kFailed or kPaused.
  const absl::Status& status() const { return status_; }

 private:
  void OnSignal();
  void Supervise();
  void ShowSteps(const RunState& state);
  void Follow(const RunState& state);
  void End(Outcome outcome);

  Supervisor& supervisor_;
  RunSource& run_;
  Screen& screen_;
  Clock& clock_;
  const SessionOptions options_;
  const absl::Time began_;  // Steady.
  const absl::Time wall_began_;
  RemainingTime remaining_;
  std::optional<orchestrator::StepRecord> last_;
  int64_t shown_step_ = 0;
  bool heard_ = false;
  bool told_pause_ = false;
  int interrupts_ = 0;
  std::optional<Outcome> ending_;
  absl::Status status_;
};

}  // namespace mpo::cli
