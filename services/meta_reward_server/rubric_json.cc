// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/rubric_json.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mpo::meta_reward_server {
namespace {

using Json = nlohmann::json;

// Models like to wrap JSON in a code fence; anything else around it is an
// error.
std::string_view WithoutFence(std::string_view text) {
  const auto trim = [](std::string_view s) {
    const size_t begin = s.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) return std::string_view();
    return s.substr(begin, s.find_last_not_of(" \t\r\n") - begin + 1);
  };
  text = trim(text);
  if (text.size() >= 6 && text.substr(0, 3) == "```" &&
      text.substr(text.size() - 3) == "```") {
    text = text.substr(3, text.size() - 6);
    if (text.substr(0, 4) == "json") text.remove_prefix(4);
    text = trim(text);
  }
  return text;
}

// Reads one criterion and notes what is wrong with it.
class CriterionReader {
 public:
  CriterionReader(const Json& json, size_t index,
                  std::vector<std::string>& problems)
      : json_(json), index_(index), problems_(problems) {}

  // Weight 0 = none was given.
  Criterion Read() {
    Criterion criterion;
    RefuseUnknown(json_, {"id", "title", "text", "minimum", "maximum", "weight",
                          "levels", "check"});
    criterion.id = Text("id", kMaxTitleChars);
    criterion.title = Text("title", kMaxTitleChars);
    criterion.text = Text("text", kMaxTextChars);
    criterion.minimum = Integer("minimum");
    criterion.maximum = Integer("maximum");
    criterion.weight =
        Present("weight") ? Number(json_["weight"], "weight") : 0;
    if (Present("weight") && criterion.weight <= 0) {
      Problem("weight: expected a number above 0");
    }
    if (Present("levels")) ReadLevels(criterion);
    if (Present("check")) ReadCheck(criterion);
    return criterion;
  }

 private:
  bool Present(const char* key) const {
    return json_.contains(key) && !json_[key].is_null();
  }

  void Problem(const std::string& problem) {
    problems_.push_back(absl::StrCat("criteria[", index_, "]: ", problem));
  }

  void RefuseUnknown(const Json& object,
                     const std::vector<std::string>& known) {
    for (const auto& [key, value] : object.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        Problem(absl::StrCat("unknown field \"", key, "\""));
      }
    }
  }

  std::string Text(const char* key, int longest) {
    if (!Present(key) || !json_[key].is_string() ||
        json_[key].get_ref<const std::string&>().empty()) {
      Problem(absl::StrCat(key, ": expected a string that is not empty"));
      return "";
    }
    std::string text = json_[key].get<std::string>();
    if (text.size() > static_cast<size_t>(longest)) {
      Problem(absl::StrCat(key, ": expected at most ", longest,
                           " characters, got ", text.size()));
    }
    return text;
  }

  int Integer(const char* key) {
    if (Present(key) && json_[key].is_number_integer()) {
      const int64_t value = json_[key].is_number_unsigned() &&
                                    json_[key].get<uint64_t>() > 1'000'000
                                ? 1'000'001
                                : json_[key].get<int64_t>();
      if (value >= -1'000'000 && value <= 1'000'000) {
        return static_cast<int>(value);
      }
    }
    Problem(absl::StrCat(key, ": expected an integer within a million"));
    return 0;
  }

  double Number(const Json& value, const char* key) {
    if (!value.is_number()) {
      Problem(absl::StrCat(key, ": expected a number"));
      return 0;
    }
    return value.get<double>();
  }

  void ReadLevels(Criterion& criterion) {
    const Json& levels = json_["levels"];
    if (!levels.is_object() || levels.size() > kMaxLevels) {
      Problem(absl::StrCat("levels: expected an object of at most ", kMaxLevels,
                           " levels"));
      return;
    }
    for (const auto& [key, text] : levels.items()) {
      int level = 0;
      if (!absl::SimpleAtoi(key, &level) || !text.is_string() ||
          text.get_ref<const std::string&>().size() > kMaxTextChars) {
        Problem(absl::StrCat("levels: expected score: description, got \"", key,
                             "\""));
        continue;
      }
      criterion.levels[level] = text.get<std::string>();
    }
  }

  void ReadCheck(Criterion& criterion) {
    const Json& check = json_["check"];
    if (!check.is_object() || !check.contains("name") ||
        !check["name"].is_string() || !check.contains("zero_at") ||
        !check.contains("saturate_at")) {
      Problem("check: expected {name, zero_at, saturate_at}");
      return;
    }
    RefuseUnknown(check, {"name", "zero_at", "saturate_at"});
    criterion.check = Check{check["name"].get<std::string>(),
                            Number(check["zero_at"], "check.zero_at"),
                            Number(check["saturate_at"], "check.saturate_at")};
  }

  const Json& json_;
  const size_t index_;
  std::vector<std::string>& problems_;
};

void Inherit(Criterion& criterion, const Rubric& active) {
  for (const Criterion& old : active.criteria) {
    if (old.id != criterion.id) continue;
    criterion.tier = old.tier;
    criterion.polarity = old.polarity;
    criterion.mode = old.mode;
    criterion.executor = old.executor;
    if (criterion.weight == 0) criterion.weight = old.weight;
    if (!criterion.check.has_value() && criterion.text == old.text) {
      criterion.check = old.check;
    }
  }
  if (criterion.weight == 0) criterion.weight = 1;
}

}  // namespace

std::string WriteRubricJson(const Rubric& rubric) {
  Json criteria = Json::array();
  for (const Criterion& criterion : rubric.criteria) {
    Json item = {{"id", criterion.id},           {"title", criterion.title},
                 {"text", criterion.text},       {"minimum", criterion.minimum},
                 {"maximum", criterion.maximum}, {"weight", criterion.weight}};
    for (const auto& [level, text] : criterion.levels) {
      item["levels"][std::to_string(level)] = text;
    }
    if (criterion.check.has_value()) {
      item["check"] = {{"name", criterion.check->name},
                       {"zero_at", criterion.check->zero_at},
                       {"saturate_at", criterion.check->saturate_at}};
    }
    criteria.push_back(std::move(item));
  }
  return Json{{"criteria", std::move(criteria)}}.dump(
      1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<Rubric> ReadRubricJson(const std::string& answer,
                                      const Rubric& active) {
  const Json json =
      Json::parse(WithoutFence(answer), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.size() != 1 || !json.contains("criteria") ||
      !json["criteria"].is_array()) {
    return absl::InvalidArgumentError(
        "expected one JSON object {\"criteria\": [...]} and nothing else");
  }
  Rubric rubric = active;
  rubric.criteria.clear();
  std::vector<std::string> problems;
  for (const Json& item : json["criteria"]) {
    const size_t index = rubric.criteria.size();
    if (!item.is_object()) {
      problems.push_back(
          absl::StrCat("criteria[", index, "]: expected an object"));
      rubric.criteria.emplace_back();
      continue;
    }
    Criterion criterion = CriterionReader(item, index, problems).Read();
    Inherit(criterion, active);
    rubric.criteria.push_back(std::move(criterion));
  }
  if (rubric.criteria.empty()) {
    problems.push_back("expected at least one criterion, got none");
  }
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  }
  return rubric;
}

const std::string& RubricJsonSchema() {
  static const auto* const schema = new std::string(R"({
  "type": "object", "additionalProperties": false, "required": ["criteria"],
  "properties": {"criteria": {"type": "array", "minItems": 1, "items": {
    "type": "object", "additionalProperties": false,
    "required": ["id", "title", "text", "minimum", "maximum"],
    "properties": {
      "id": {"type": "string", "pattern": "^[a-z0-9_]+$"},
      "title": {"type": "string"},
      "text": {"type": "string"},
      "minimum": {"type": "integer"},
      "maximum": {"type": "integer"},
      "weight": {"type": "number"},
      "levels": {"type": "object", "additionalProperties": {"type": "string"}},
      "check": {"type": "object", "additionalProperties": false,
        "required": ["name", "zero_at", "saturate_at"],
        "properties": {"name": {"type": "string"},
          "zero_at": {"type": "number"}, "saturate_at": {"type": "number"}}}
    }}}}
})");
  return *schema;
}

}  // namespace mpo::meta_reward_server
