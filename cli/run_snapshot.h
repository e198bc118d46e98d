// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/orchestrator/record.h"

namespace mpo::cli {

// Counts over the training samples of a run.
struct SampleCounts {
  int64_t planned = 0;
  int64_t committed = 0;   // Assigned to a committed step.
  int64_t unscorable = 0;  // Of the committed ones.
  bool operator==(const SampleCounts&) const = default;
};

// What `mpo train` itself remembers of a run, in supervision.json: it sums over
// every time the run was started.
struct SupervisionRecord {
  double seconds = 0;                   // Wall time of `mpo train`.
  std::map<std::string, int> restarts;  // By process.
  bool operator==(const SupervisionRecord&) const = default;
};

// Everything of a run that status, summary and report show.
struct RunSnapshot {
  orchestrator::RunRecord run;
  std::vector<orchestrator::StepRecord> steps;  // Ascending.
  std::vector<orchestrator::RubricRecord> rubrics;
  std::vector<orchestrator::RefinementRecord> refinements;
  // Means of an evaluation by the step it followed; step 0 is the untrained
  // policy.
  std::map<int64_t, std::map<std::string, double>> evaluations;
  std::vector<orchestrator::EventRecord> events;
  SampleCounts samples;
  // Absent where mpo train did not start the processes, as in containers.
  std::optional<SupervisionRecord> supervision;
  std::string config;    // config.yaml as given; empty where it is missing.
  std::string resolved;  // config.resolved.yaml, likewise.
};

// Reads the ledger and the files of a run directory; works beside a running
// mesh. NOT_FOUND: no run in that directory; the message says what was
// expected. Otherwise as orchestrator::Ledger.
absl::StatusOr<RunSnapshot> ReadRun(const std::filesystem::path& directory);

// Samples of one step in plan order; errors as above.
absl::StatusOr<std::vector<orchestrator::SampleRecord>> ReadSamples(
    const std::filesystem::path& directory, WorkKind kind, int64_t step);

// supervision.json; all zero where there is none. DATA_LOSS: not understood.
absl::StatusOr<SupervisionRecord> ReadSupervision(
    const std::filesystem::path& directory);
absl::Status WriteSupervision(const std::filesystem::path& directory,
                              const SupervisionRecord& record);

}  // namespace mpo::cli
