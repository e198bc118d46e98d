// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::cli {

// One program to keep running.
struct ProcessSpec {
  std::string name;               // "actor-0"; unique, shown to people.
  std::vector<std::string> argv;  // argv[0] is the path of the binary.
  // Added to the environment, or put in place of what is there.
  std::map<std::string, std::string> environment;
  std::filesystem::path log;  // stdout and stderr are appended here.
  // Stages are stopped in ascending order, each when the one before is gone.
  int drain_stage = 0;
  // Processes of one group, if it is not empty, only work together: when one
  // ends, the others are killed and all start again.
  std::string restart_group = {};
};

// How a process ended.
struct ProcessExit {
  int code = 0;    // Exit code; meaningless when `signal` is not 0.
  int signal = 0;  // Signal that killed it; 0 = it exited.
  bool operator==(const ProcessExit&) const = default;
};

// "exit code 1" or "signal 9 (Killed)".
std::string ToString(const ProcessExit& how);

// The last line of a log that holds text, at most 500 bytes of it; empty where
// there is none.
std::string LastLogLine(const std::filesystem::path& log);

// Starts and watches operating system processes. Not thread-safe.
class Processes {
 public:
  virtual ~Processes() = default;
  // Returns the process id. NOT_FOUND or FAILED_PRECONDITION: the binary
  // cannot be run or the log cannot be written; the message names the file.
  virtual absl::StatusOr<int> Start(const ProcessSpec& spec) = 0;
  // How the process ended; nullopt while it runs. Never blocks. Reports each
  // end once.
  virtual std::optional<ProcessExit> Reap(int pid) = 0;
  // Ignores processes that are gone.
  virtual void Signal(int pid, int signal) = 0;
};

// fork and exec. Each child leads its own process group, so that Ctrl-C in a
// terminal reaches only its parent, and is killed when the thread that started
// it ends: start from the main thread.
class RealProcesses final : public Processes {
 public:
  absl::StatusOr<int> Start(const ProcessSpec& spec) override;
  std::optional<ProcessExit> Reap(int pid) override;
  void Signal(int pid, int signal) override;
};

}  // namespace mpo::cli
