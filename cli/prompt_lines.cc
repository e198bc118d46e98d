// SPDX-License-Identifier: Apache-2.0
#include "cli/prompt_lines.h"

#include <cstdint>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/json_file.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::json;

// The names the three kinds of prompt have on a line.
struct Names {
  const char* text;
  const char* messages;
  const char* tokens;
  bool has_id;
};

absl::StatusOr<std::vector<int32_t>> Tokens(const Json& list,
                                            const char* name) {
  constexpr uint64_t kMost = std::numeric_limits<int32_t>::max();
  std::vector<int32_t> tokens;
  bool good = list.is_array();
  for (size_t i = 0; good && i < list.size(); ++i) {
    good = list[i].is_number_unsigned() && list[i].get<uint64_t>() <= kMost;
    if (good) tokens.push_back(list[i].get<int32_t>());
  }
  if (good) return tokens;
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": expected a list of token ids, whole numbers of 0 to ", kMost));
}

absl::StatusOr<PromptLine> Read(const Json& json, const Names& names) {
  PromptLine line;
  int given = 0;
  for (const auto& [key, value] : json.items()) {
    if (names.has_id && key == "id") {
      line.id = value.is_string() ? value.get<std::string>() : value.dump();
    } else if (key == names.text) {
      line.text = value.get<std::string>();
      ++given;
    } else if (key == names.messages) {
      for (const Json& message : value) {
        line.messages.push_back({message.at("role").get<std::string>(),
                                 message.at("content").get<std::string>()});
      }
      if (line.messages.empty()) {
        return absl::InvalidArgumentError("messages: expected at least one");
      }
      ++given;
    } else if (key == names.tokens) {
      MPO_ASSIGN_OR_RETURN(line.tokens, Tokens(value, names.tokens));
      ++given;
    } else if (names.has_id && (key == "reference" || key == "subject" ||
                                key == "key_terms" || key == "cluster")) {
      // Fields of a run's prompts that generation has no use for.
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown field \"", key, "\""));
    }
  }
  if (given != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected exactly one of ", names.text, ", ",
                     names.messages, " and ", names.tokens, ", got ", given));
  }
  if (names.has_id && line.id.empty()) {
    return absl::InvalidArgumentError("expected an id");
  }
  return line;
}

absl::StatusOr<PromptLine> Parse(std::string_view bytes, const Names& names,
                                 const std::string& where) {
  const auto fail = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
  };
  MPO_ASSIGN_OR_RETURN(const Json json, text::ParseJsonObject(bytes, where));
  try {
    auto line = Read(json, names);
    if (!line.ok()) return fail(std::string(line.status().message()));
    return line;
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

}  // namespace

absl::StatusOr<std::vector<PromptLine>> ParsePromptLines(
    std::string_view text, const std::string& source) {
  constexpr Names kNames = {"prompt", "messages", "tokens", /*has_id=*/true};
  std::vector<PromptLine> lines;
  std::set<std::string> ids;
  int number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = absl::StrCat(source, ":", number);
    MPO_ASSIGN_OR_RETURN(PromptLine line, Parse(one, kNames, where));
    if (!ids.insert(line.id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": id \"", line.id, "\" was used before"));
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": expected JSON lines with at least one prompt, got none"));
  }
  return lines;
}

absl::StatusOr<PromptLine> ParseTokenizeLine(std::string_view line,
                                             const std::string& source) {
  return Parse(line, {"text", "messages", "ids", /*has_id=*/false}, source);
}

}  // namespace mpo::cli
