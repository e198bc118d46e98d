// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"
#include "mpo/types/refinement.h"
#include "mpo/types/rollout.h"
#include "mpo/types/verdict.h"
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

// JSON of the ledger's structured columns. Writing keeps every double exactly;
// bytes that are not UTF-8 become U+FFFD. Reading gives DATA_LOSS for text
// that this program did not write.
std::string ToJson(const Prompt& prompt);
std::string ToJson(const Verdict& verdict);
std::string ToJson(const BaseStatistics& base);
std::string ToJson(const std::map<std::string, double>& values);
std::string ToJson(const std::vector<std::string>& lines);
std::string ToJson(const std::vector<RubricChange>& changes);

absl::StatusOr<Prompt> PromptFromJson(const std::string& text);
absl::StatusOr<Verdict> VerdictFromJson(const std::string& text);
absl::StatusOr<BaseStatistics> BaseFromJson(const std::string& text);
absl::StatusOr<std::map<std::string, double>> ValuesFromJson(
    const std::string& text);
absl::StatusOr<std::vector<std::string>> LinesFromJson(const std::string& text);
absl::StatusOr<std::vector<RubricChange>> ChangesFromJson(
    const std::string& text);

// One line of metrics.jsonl, without the newline.
std::string MetricsLine(const StepRecord& step);
// One line of samples.jsonl, without the newline.
std::string SampleLine(const SampleRecord& sample);

}  // namespace mpo::orchestrator
