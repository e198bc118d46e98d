// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/run_snapshot.h"
#include "cli/run_summary.h"
#include "mpo/types/rubric.h"

namespace mpo::cli {

// Responses to one prompt before and after training.
struct SamplePair {
  orchestrator::SampleRecord before;
  orchestrator::SampleRecord after;
};

// Everything the report shows.
struct ReportInput {
  RunSnapshot snapshot;
  RunSummary summary;
  std::map<std::string, Rubric> rubrics;  // Parsed, by SHA-256.
  std::vector<SamplePair> pairs;
  std::string pairs_note;  // Which prompts these are and how they were chosen.
  std::string before_label = "before";
  std::string after_label = "after";
};

// Reads a run directory. Errors as ReadRun; INVALID_ARGUMENT: a rubric of the
// ledger is not valid.
absl::StatusOr<ReportInput> PrepareReport(
    const std::filesystem::path& directory);

// A self-contained HTML page: no script, no network.
std::string ReportPage(const ReportInput& input);

// Parts of the page.
std::string RubricTimeline(const ReportInput& input);
std::string SampleCards(const ReportInput& input);
// What changed from one rubric to the next, as table rows.
std::string RubricDiff(const Rubric& from, const Rubric& to);

}  // namespace mpo::cli
