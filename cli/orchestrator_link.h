// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/mutex.h"
#include "mpo/types/rubric.h"

namespace mpo::cli {

// What the orchestrator last said of the run.
struct RunState {
  std::string run = {};
  // "generating", "training", "refining", "paused" or "finished".
  std::string phase = {};
  bool paused = false;
  bool finished = false;
  std::string reason = {};  // Why it is paused.
  int64_t step = 0;         // Last committed.
  int64_t total_steps = 0;
  int64_t policy_version = 0;
  int64_t rubric_version = 0;
  std::string rubric_sha256 = {};
  int samples_done = 0;  // Of the step being generated.
  int samples_planned = 0;
  std::map<std::string, double> metrics = {};  // Of the last committed step.
};

// Pauses asked for by `mpo pause` begin with this; others are the run's own.
inline constexpr char kOperatorPause[] = "operator: ";

// Where the state is read once. UNAVAILABLE: nobody answers at `address`.
absl::StatusOr<RunState> ReadState(const std::string& address,
                                   absl::Duration timeout);

// Follows WatchRun on a thread of its own and reconnects for as long as it
// lives. Thread-safe.
class RunWatcher {
 public:
  explicit RunWatcher(const std::string& address);
  ~RunWatcher();
  RunWatcher(const RunWatcher&) = delete;
  RunWatcher& operator=(const RunWatcher&) = delete;

  // Nullopt until the first message.
  std::optional<RunState> State() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop(std::stop_token stop, const std::string& address);

  mutable Mutex mu_;
  CondVar changed_;
  std::optional<RunState> state_ ABSL_GUARDED_BY(mu_);
  std::jthread thread_;  // Last: it uses the members above.
};

// Administration of a running mesh. Errors as the RPCs of the same name, and
// UNAVAILABLE when nobody answers.
absl::Status PauseRun(const std::string& address, const std::string& reason);
absl::Status ResumeRun(const std::string& address);
absl::Status StopRun(const std::string& address);
// Stores a draft; returns its SHA-256.
absl::StatusOr<std::string> ProposeRubric(const std::string& address,
                                          const Rubric& rubric,
                                          const std::string& reason);
absl::Status ActivateRubric(const std::string& address,
                            const std::string& sha256);
// Returns the SHA-256 of the rubric that is active now.
absl::StatusOr<std::string> RollbackRubric(const std::string& address);

}  // namespace mpo::cli
