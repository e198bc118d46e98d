// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cli/processes.h"
#include "mpo/base/clock.h"

namespace mpo::cli {

struct SupervisorOptions {
  // Pause before the first restart; doubles up to the longest, and starts anew
  // for a process that ran for `stable_after`.
  absl::Duration first_backoff = absl::Milliseconds(250);
  absl::Duration longest_backoff = absl::Seconds(10);
  absl::Duration stable_after = absl::Seconds(60);
  // Restarts one process may have within the window.
  int budget = 8;
  absl::Duration window = absl::Minutes(10);
  // From the drain's start; what still runs then is killed.
  absl::Duration drain_deadline = absl::Seconds(30);
};

// Keeps a set of processes running: one that ends is started again after a
// pause, with the rest of its restart group, until its budget is spent. Drives
// nothing by itself: its owner calls Tick every fraction of a second. Not
// thread-safe.
class Supervisor {
 public:
  struct Event {
    enum class Kind { kEnded, kRestarted, kKilled };
    Kind kind = Kind::kEnded;
    std::string process;
    ProcessExit how;         // kEnded.
    absl::Duration backoff;  // kEnded: until it is started again.
  };

  Supervisor(Processes& processes, Clock& clock,
             const SupervisorOptions& options)
      : processes_(processes), clock_(clock), options_(options) {}
  // Kills what still runs.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Starts one process. Errors as Processes::Start.
  absl::Status Start(const ProcessSpec& spec);

  // Looks after all processes; appends what happened to `events`.
  // FAILED_PRECONDITION: a process ended with code 2, bad input, which no
  // restart mends. UNAVAILABLE: its budget is spent. Either message names the
  // process, how it ended and its log. Errors as Processes::Start where a
  // restart fails.
  absl::Status Tick(std::vector<Event>& events);

  // Asks all processes to end, stage by stage (Tick goes on with it); what
  // ends is not started again. Idempotent.
  void BeginDrain();
  // Kills at once.
  void Kill();
  bool AllGone() const;

  // Restarts so far, by process name; without those that never were needed.
  const std::map<std::string, int>& restarts() const { return restarts_; }
  // Ids of running processes by name.
  std::map<std::string, int> Running() const;

 private:
  struct Child {
    ProcessSpec spec;
    int pid = 0;  // 0 = not running.
    absl::Time started;
    absl::Time restart_at;
    absl::Duration backoff;
    std::vector<absl::Time> restarted;  // Within the window.
    bool asked_to_end = false;
    bool felled = false;  // Killed because another of its group ended.
  };

  absl::Status HandleEnd(Child& child, const ProcessExit& how,
                         std::vector<Event>& events);
  // Kills the rest of the group of a process that ended by itself.
  void FellGroup(Child& ended);
  absl::Status StartAgain(Child& child, std::vector<Event>& events);
  void DrainTick(std::vector<Event>& events);

  Processes& processes_;
  Clock& clock_;
  const SupervisorOptions options_;
  std::vector<Child> children_;
  std::map<std::string, int> restarts_;
  bool draining_ = false;
  absl::Time drain_began_;
};

}  // namespace mpo::cli
