// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/config_fields.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mpo::model {

using Json = nlohmann::json;

std::string Shown(const Json& value) {
  return value
      .dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace)
      .substr(0, 80);
}

const Json* ConfigFields::Find(const char* key) {
  known_.insert(key);
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

int64_t ConfigFields::Int(const char* key, std::optional<int64_t> absent) {
  const Json* value = Find(key);
  if (value == nullptr && absent.has_value()) return *absent;
  const bool large = value != nullptr && value->is_number_unsigned() &&
                     value->get<uint64_t>() > uint64_t{INT64_MAX};
  if (value != nullptr && value->is_number_integer() && !large)
    return value->get<int64_t>();
  Wrong(key, "an integer", value == nullptr ? Json() : *value);
  return 0;
}

double ConfigFields::Number(const char* key, std::optional<double> absent) {
  const Json* value = Find(key);
  if (value == nullptr && absent.has_value()) return *absent;
  if (value != nullptr && value->is_number()) return value->get<double>();
  Wrong(key, "a number", value == nullptr ? Json() : *value);
  return 0;
}

bool ConfigFields::Bool(const char* key, bool absent) {
  const Json* value = Find(key);
  if (value == nullptr) return absent;
  if (value->is_boolean()) return value->get<bool>();
  Wrong(key, "true or false", *value);
  return absent;
}

std::string ConfigFields::String(const char* key,
                                 std::optional<std::string> absent) {
  const Json* value = Find(key);
  if (value == nullptr && absent.has_value()) return *absent;
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  Wrong(key, "a string", value == nullptr ? Json() : *value);
  return "";
}

std::vector<int32_t> ConfigFields::Tokens(const char* key) {
  const Json* value = Find(key);
  std::vector<int32_t> tokens;
  if (value == nullptr) return tokens;
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    if (!item.is_number_unsigned() ||
        item.get<uint64_t>() > uint64_t{INT32_MAX}) {
      Wrong(key, "a token id or a list of them", *value);
      return {};
    }
    tokens.push_back(item.get<int32_t>());
  }
  return tokens;
}

void ConfigFields::Only(const char* key, const Json& value) {
  const Json* found = Find(key);
  if (found == nullptr || *found == value) return;
  Wrong(key, absl::StrCat(value.dump(), " (nothing else is supported)"),
        *found);
}

void ConfigFields::Fail(const std::string& message) {
  if (!status_.ok()) return;
  status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", message));
}

void ConfigFields::Wrong(const char* key, const std::string& expected,
                         const Json& found) {
  Fail(absl::StrCat("key '", key, "': expected ", expected, ", found ",
                    found.is_null() ? "nothing" : Shown(found)));
}

absl::Status ConfigFields::Finish(const std::set<std::string>& neutral) {
  for (const auto& [key, value] : object_.items()) {
    if (known_.count(key) > 0 || neutral.count(key) > 0 || value.is_null() ||
        absl::StartsWith(key, "_") || absl::StartsWith(key, "transformers")) {
      continue;
    }
    const std::string shown = key.substr(0, 80);
    Wrong(shown.c_str(),
          "it not to be there (unknown keys may change the mathematics)",
          value);
  }
  return status_;
}

}  // namespace mpo::model
