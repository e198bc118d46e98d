// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/rubric.h"
#include "services/orchestrator/record.h"

namespace mpo::cli {

// What changed from one rubric to the next, one line a difference: "+" a new
// criterion, "-" a dropped one, "~" a changed field. Empty = the same.
std::string DiffText(const Rubric& from, const Rubric& to);

// "  2  active   from step 9   4f1c...  refinement: reason; reason".
std::string ListLine(const orchestrator::RubricRecord& rubric);
// JSON array of all versions.
std::string ListJson(const std::vector<orchestrator::RubricRecord>& rubrics);

// The rubric meant by `name`: a version number, or the first digits of a
// SHA-256 (at least 4). NOT_FOUND: none, with those there are.
// INVALID_ARGUMENT: several.
absl::StatusOr<orchestrator::RubricRecord> Pick(
    const std::vector<orchestrator::RubricRecord>& rubrics,
    const std::string& name);

}  // namespace mpo::cli
