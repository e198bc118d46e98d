// SPDX-License-Identifier: Apache-2.0
#include "mpo/evaluation/prompts.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/evaluation/answers.h"

namespace mpo::evaluation {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;
constexpr size_t kMaxProblemsShown = 50;

// Collects the problems of one line.
class LineReader {
 public:
  LineReader(const Json& line, std::vector<std::string>& problems)
      : line_(line), problems_(problems) {}

  std::string Text(const char* key) {
    const auto it = line_.find(key);
    if (it == line_.end()) return "";
    if (!it->is_string()) {
      Problem(absl::StrCat(key, ": expected a string, got ", it->type_name()));
      return "";
    }
    return it->get<std::string>();
  }

  std::vector<std::string> Texts(const char* key) {
    std::vector<std::string> texts;
    const auto it = line_.find(key);
    if (it == line_.end()) return texts;
    if (!it->is_array()) {
      Problem(absl::StrCat(key, ": expected a list of strings, got ",
                           it->type_name()));
      return texts;
    }
    for (const Json& item : *it) {
      if (!item.is_string() || item.get_ref<const std::string&>().empty()) {
        Problem(absl::StrCat(key, ": expected strings that are not empty, got ",
                             item.dump()));
        return {};
      }
      texts.push_back(item.get<std::string>());
    }
    return texts;
  }

  std::vector<ChatMessage> Messages() {
    std::vector<ChatMessage> messages;
    const auto it = line_.find("messages");
    if (it == line_.end()) return messages;
    if (!it->is_array() || it->empty()) {
      Problem("messages: expected a list of {role, content}");
      return messages;
    }
    for (const Json& item : *it) {
      const bool shaped = item.is_object() && item.size() == 2 &&
                          item.contains("role") && item["role"].is_string() &&
                          item.contains("content") &&
                          item["content"].is_string();
      if (!shaped) {
        Problem("messages: expected objects of two strings, role and content");
        return messages;
      }
      ChatMessage message{item["role"].get<std::string>(),
                          item["content"].get<std::string>()};
      if (message.role != "system" && message.role != "user" &&
          message.role != "assistant") {
        Problem(
            absl::StrCat("messages: role must be system, user or "
                         "assistant, got \"",
                         message.role, "\""));
      }
      messages.push_back(std::move(message));
    }
    return messages;
  }

  void RefuseUnknown() {
    for (const auto& [key, value] : line_.items()) {
      if (key != "id" && key != "messages" && key != "prompt" &&
          key != "reference" && key != "subject" && key != "key_terms" &&
          key != "cluster") {
        Problem(absl::StrCat("unknown field \"", key, "\""));
      }
    }
  }

  void Problem(const std::string& problem) { problems_.push_back(problem); }

 private:
  const Json& line_;
  std::vector<std::string>& problems_;
};

Prompt ReadLine(const Json& line, const std::string& task,
                std::vector<std::string>& problems) {
  LineReader reader(line, problems);
  reader.RefuseUnknown();
  Prompt prompt;
  prompt.task = task;
  prompt.id = reader.Text("id");
  prompt.messages = reader.Messages();
  prompt.text = reader.Text("prompt");
  prompt.reference = reader.Text("reference");
  prompt.subject = reader.Text("subject");
  prompt.key_terms = reader.Texts("key_terms");
  prompt.cluster = reader.Text("cluster");
  if (prompt.id.empty()) reader.Problem("id is missing or empty");
  if (line.contains("messages") == line.contains("prompt")) {
    reader.Problem("expected either messages or prompt");
  } else if (line.contains("prompt") && prompt.text.empty()) {
    reader.Problem("prompt is empty");
  }
  if (task == "essay" && (prompt.subject.empty() || prompt.key_terms.empty())) {
    reader.Problem("task essay needs subject and key_terms");
  }
  if (task == "math" && !ParseNumber(prompt.reference).has_value()) {
    reader.Problem(absl::StrCat("task math needs a number as reference, got \"",
                                prompt.reference, "\""));
  }
  return prompt;
}

absl::Status Report(const std::vector<std::string>& problems) {
  std::vector<std::string> shown(
      problems.begin(),
      problems.begin() + static_cast<std::ptrdiff_t>(
                             std::min(problems.size(), kMaxProblemsShown)));
  if (problems.size() > shown.size()) {
    shown.push_back(
        absl::StrCat("and ", problems.size() - shown.size(), " more problems"));
  }
  return absl::InvalidArgumentError(absl::StrJoin(shown, "\n"));
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> ParsePrompts(std::string_view lines,
                                                 const std::string& name,
                                                 const std::string& task) {
  std::vector<Prompt> prompts;
  std::vector<std::string> problems;
  std::map<std::string, int> line_of_id;
  int number = 0;
  while (!lines.empty()) {
    ++number;
    const size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    std::vector<std::string> found;
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object()) {
      Prompt prompt = ReadLine(json, task, found);
      const auto [it, fresh] = line_of_id.emplace(prompt.id, number);
      if (!fresh && !prompt.id.empty()) {
        found.push_back(absl::StrCat("id \"", prompt.id, "\" was used on line ",
                                     it->second));
      }
      prompts.push_back(std::move(prompt));
    } else {
      found.push_back("expected a JSON object");
    }
    for (const std::string& problem : found) {
      problems.push_back(absl::StrCat(name, ":", number, ": ", problem));
    }
  }
  if (!problems.empty()) return Report(problems);
  if (prompts.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": expected at least one prompt, got none"));
  }
  return prompts;
}

absl::StatusOr<std::vector<Prompt>> ReadPrompts(
    const std::filesystem::path& path, const std::string& task) {
  MPO_ASSIGN_OR_RETURN(const std::string lines, ReadFile(path, kMaxFileBytes));
  return ParsePrompts(lines, path.string(), task);
}

}  // namespace mpo::evaluation
