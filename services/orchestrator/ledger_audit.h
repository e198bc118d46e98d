// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::orchestrator {

// Outcome of the offline exactly-once proof over one ledger.
struct AuditReport {
  struct Check {
    std::string name;  // What is promised.
    bool ok = false;
    std::string detail;  // Figures when ok, else the first violations.
  };
  std::vector<Check> checks;
  int64_t committed_steps = 0;
  int64_t samples_planned = 0;     // Training samples of all planned steps.
  int64_t samples_committed = 0;   // Of committed steps.
  int64_t samples_unscorable = 0;  // Of those.

  bool ok() const;
};

// Reads the ledger (read-only, safe beside a running orchestrator) and checks
// that every planned sample of each committed step is complete exactly once
// and used in exactly that step, that steps, batches and lease epochs have no
// gaps or repeats, that keys and seeds are what the plan derives them from,
// and that the lineage of rubrics is whole. `digest_of` gives the SHA-256 of a
// rubric's YAML text. NOT_FOUND: no ledger; else the codes of
// store::Database. Violations are in the report, not in the status.
absl::StatusOr<AuditReport> AuditLedger(
    const std::filesystem::path& path,
    const std::function<absl::StatusOr<std::string>(const std::string& yaml)>&
        digest_of);

}  // namespace mpo::orchestrator
