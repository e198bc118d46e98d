// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"

namespace mpo::cli {

// One line of `mpo generate --prompts` or of `mpo tokenize`'s input: exactly
// one of text, messages and tokens is given.
struct PromptLine {
  std::string id;
  std::optional<std::string> text;
  std::vector<ChatMessage> messages;
  std::optional<std::vector<int32_t>> tokens;
};

// {"id", "prompt"} | {"id", "messages": [...]} | {"id", "tokens": [...]}, one a
// line; blank lines are skipped, and so are the other fields that the prompts
// of a run have (mpo/evaluation/prompts.h). INVALID_ARGUMENT names `source` and
// the line: bad JSON, an unknown, missing or ill-typed field, an id twice, no
// lines.
absl::StatusOr<std::vector<PromptLine>> ParsePromptLines(
    std::string_view text, const std::string& source);

// {"text"} | {"messages"} | {"ids"}. Same errors.
absl::StatusOr<PromptLine> ParseTokenizeLine(std::string_view line,
                                             const std::string& source);

}  // namespace mpo::cli
