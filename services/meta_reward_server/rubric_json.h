// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "mpo/types/rubric.h"

namespace mpo::meta_reward_server {

// JSON that a meta-judge reads and writes:
//   {"criteria": [{"id", "title", "text", "minimum", "maximum", "weight"?,
//                  "levels"?: {"0": "..."},
//                  "check"?: {"name", "zero_at", "saturate_at"}}]}

// What the active rubric looks like to the meta-judge. Invalid UTF-8 is
// replaced.
std::string WriteRubricJson(const Rubric& rubric);

// Reads the criteria of an answer into a copy of `active`: a criterion with a
// known id keeps that criterion's tier, polarity, mode and executor, its weight
// unless told otherwise, and its check where the text stayed the same.
// INVALID_ARGUMENT: every deviation from the schema, one a line. Does not
// judge whether the rubric makes sense.
absl::StatusOr<Rubric> ReadRubricJson(const std::string& answer,
                                      const Rubric& active);

// The JSON schema of the answer, for servers that enforce one.
const std::string& RubricJsonSchema();

// Largest number of characters of a criterion's title, text and level.
inline constexpr int kMaxTitleChars = 200;
inline constexpr int kMaxTextChars = 2000;
inline constexpr int kMaxLevels = 20;

}  // namespace mpo::meta_reward_server
