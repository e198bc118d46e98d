// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mpo::cli {

// One line of `mpo doctor`.
struct Finding {
  enum class Level { kOk, kWarning, kFailed };
  Level level = Level::kOk;
  std::string name;         // "memory"
  std::string detail = {};  // What was found and, unless ok, what to do.
};

// "ok    memory   18.2 GiB available".
std::string ToLine(const Finding& finding);
// One JSON object with all of them.
std::string ToJson(const std::vector<Finding>& findings);
bool AnyFailed(const std::vector<Finding>& findings);

// Cores, memory, disk of `directory`, vector instructions. `meminfo` and
// `cpuinfo` are the texts of the files in /proc.
std::vector<Finding> CheckMachine(const std::string& meminfo,
                                  const std::string& cpuinfo,
                                  const std::filesystem::path& directory);

// The exactly-once proof over a run's ledger, one finding a promise.
std::vector<Finding> AuditRun(const std::filesystem::path& directory);

// Whether an OpenAI-compatible server answers at `base_url`.
Finding CheckJudge(const std::string& base_url);

// Whether LibTorch computes.
Finding CheckTorch();

}  // namespace mpo::cli
