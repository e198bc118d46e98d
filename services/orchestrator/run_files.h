// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/orchestrator/ledger.h"

namespace mpo::orchestrator {

// Exports of the ledger into the run directory: metrics.jsonl (a line a
// committed step), samples.jsonl (a line a sample of a committed step or
// complete evaluation), rubrics/<scope>/<version>.yaml. The ledger is the
// truth: the files are rewritten by the first export of a process and extended
// afterwards. Not thread-safe.
class RunFiles {
 public:
  // An empty directory makes every call do nothing.
  explicit RunFiles(std::filesystem::path directory);

  // What one export is going to write; gathered under the ledger's lock.
  struct Pending {
    bool rewrite_metrics = false;
    bool rewrite_samples = false;
    std::string metrics;
    std::string samples;
    std::vector<std::pair<std::filesystem::path, std::string>> rubrics;
    bool more = false;  // Call again for the rest.
  };
  // Everything that was not exported yet. Reads the ledger, writes nothing.
  absl::StatusOr<Pending> Gather(Ledger& ledger);
  // Writes it. After a failure the next Gather begins from the start.
  absl::Status Write(const Pending& pending);

 private:
  const std::filesystem::path directory_;
  bool fresh_ = true;
  int64_t exported_step_ = 0;
  std::set<int64_t> exported_evaluations_;
  int64_t exported_rubrics_ = 0;
};

}  // namespace mpo::orchestrator
