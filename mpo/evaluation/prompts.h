// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"

namespace mpo::evaluation {

// Reads prompts from JSON lines, one object a line:
//   {"id", "messages": [{"role", "content"}] | "prompt",
//    "reference"?, "subject"?, "key_terms"?: [...], "cluster"?}
// Blank lines are skipped. Task essay also needs subject and key_terms, task
// math a numeric reference.
// INVALID_ARGUMENT: no prompts, or every problem found as "file:line: ..."
// (bad JSON, unknown, missing or ill-typed field, duplicate id), one a line.
// NOT_FOUND, RESOURCE_EXHAUSTED (over 1 GiB), UNAVAILABLE: as ReadFile.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(
    const std::filesystem::path& path, const std::string& task);

// The same from memory; `name` stands for the file in messages.
absl::StatusOr<std::vector<Prompt>> ParsePrompts(std::string_view lines,
                                                 const std::string& name,
                                                 const std::string& task);

}  // namespace mpo::evaluation
