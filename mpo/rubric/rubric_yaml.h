// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "mpo/types/rubric.h"

namespace mpo::rubric {

// Reads a rubric written as YAML. Keys that are left out have the defaults of
// mpo::Rubric. INVALID_ARGUMENT: every problem, one a line with its line
// number: bad YAML, an unknown, repeated or ill-typed key, an unknown name.
// Whether the rubric makes sense is Validate's affair.
absl::StatusOr<Rubric> ParseYaml(const std::string& yaml);

// YAML with every key, which ParseYaml reads back to an equal rubric. Equal
// rubrics give equal text.
std::string ToYaml(const Rubric& rubric);

// SHA-256 of the content, however its file was written.
std::string Sha256Of(const Rubric& rubric);

}  // namespace mpo::rubric
