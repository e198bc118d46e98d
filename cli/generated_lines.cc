// SPDX-License-Identifier: Apache-2.0
#include "cli/generated_lines.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::ordered_json;

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kFailed:
      break;
  }
  return "failed";
}

}  // namespace

std::string GeneratedLine(const generation::GenerationResult& result,
                          const text::Tokenizer& tokenizer,
                          const std::optional<std::string>& text,
                          bool logprobs) {
  absl::Status status = result.status;
  std::string shown = text.value_or("");
  if (!text.has_value()) {
    auto decoded = tokenizer.Decode(result.tokens);
    if (decoded.ok()) shown = *std::move(decoded);
    status.Update(decoded.status());
  }
  Json json{{"id", result.id},
            {"tokens", result.tokens},
            {"text", shown},
            {"finish_reason", Name(result.finish_reason)}};
  if (logprobs) {
    json["logprobs"] = result.logprobs;
    json["untempered_logprobs"] = result.untempered_logprobs;
  }
  if (!status.ok()) json["error"] = std::string(status.message());
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::Status FailureOf(const std::vector<generation::GenerationResult>& results,
                       const std::string& output) {
  int failed = 0;
  absl::Status first;
  for (const generation::GenerationResult& result : results) {
    if (result.status.ok()) continue;
    ++failed;
    first.Update(result.status);
  }
  if (failed == 0) return first;
  return absl::Status(
      first.code(),
      absl::StrCat(failed, " of ", results.size(), " samples failed (\"error\"",
                   " in ", output,
                   "); the first: ", std::string(first.message())));
}

}  // namespace mpo::cli
