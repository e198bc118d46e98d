// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cli/processes.h"

namespace mpo::cli {

// Processes that run until a test ends them.
class FakeProcesses final : public Processes {
 public:
  absl::StatusOr<int> Start(const ProcessSpec& spec) override {
    if (broken.count(spec.name) > 0) {
      return absl::NotFoundError("cannot start " + spec.name);
    }
    const int pid = next_pid_++;
    started.push_back(spec.name);
    pids[spec.name] = pid;
    return pid;
  }
  std::optional<ProcessExit> Reap(int pid) override {
    const auto found = ended_.find(pid);
    if (found == ended_.end()) return std::nullopt;
    const ProcessExit how = found->second;
    ended_.erase(found);
    return how;
  }
  void Signal(int pid, int signal) override {
    signals.emplace_back(pid, signal);
  }

  void End(const std::string& name, ProcessExit how) {
    ended_[pids[name]] = how;
  }

  std::set<std::string> broken;              // Names that cannot be started.
  std::vector<std::string> started;          // In order.
  std::map<std::string, int> pids;           // Latest, by name.
  std::vector<std::pair<int, int>> signals;  // (pid, signal).

 private:
  int next_pid_ = 100;
  std::map<int, ProcessExit> ended_;
};

}  // namespace mpo::cli
