// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/run_snapshot.h"

namespace mpo::cli {

// Means over the first and the last tenth of the committed steps, at least one
// step each; absent where no such step has the metric.
struct Trend {
  std::optional<double> first;
  std::optional<double> last;
};

// The figures of summary.json.
struct RunSummary {
  std::string run;
  std::string config_sha256;
  int64_t seed = 0;
  int64_t steps = 0;  // Committed.
  // Both absent where mpo train did not watch over the processes.
  std::optional<double> seconds = {};
  std::optional<int64_t> restarts = {};
  Trend proxy;                  // Share of the initial rubric's maximum, 0..10.
  Trend gold;                   // 0..10.
  Trend heldout_gold;           // First and last evaluation, not a tenth.
  int64_t rubric_versions = 0;  // That judged at least one step.
  int64_t proposed = 0;         // Refinements that ended with a proposal.
  int64_t accepted = 0;
  int64_t rejected = 0;
  SampleCounts samples;
  // Generated tokens by the seconds they were generated in; 0 = not measured.
  double tokens_per_second = 0;
  std::string weights_sha256;  // After the last committed step.
};

Trend TrendOf(const std::vector<orchestrator::StepRecord>& steps,
              const std::string& metric);
RunSummary Summarise(const RunSnapshot& snapshot);

// One JSON object, architecture of summary.json; absent figures are null.
std::string ToJson(const RunSummary& summary);

// Lines for people: what moved from where to where.
std::string ToText(const RunSummary& summary);

}  // namespace mpo::cli
