// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace mpo::model {

// A value as it goes into a message: at most 80 characters, ASCII.
std::string Shown(const nlohmann::json& value);

// Reads one untrusted JSON object and remembers the first error, which names
// `source`, the key, what was expected and what was found, and which keys were
// asked for. null counts as absent. Not thread-safe; the object must outlive
// it.
class ConfigFields {
 public:
  ConfigFields(const nlohmann::json& object, std::string source)
      : object_(object), source_(std::move(source)) {}

  // The value, or `absent`; where that is empty the key must be there.
  int64_t Int(const char* key, std::optional<int64_t> absent = std::nullopt);
  double Number(const char* key, std::optional<double> absent = std::nullopt);
  bool Bool(const char* key, bool absent);
  std::string String(const char* key,
                     std::optional<std::string> absent = std::nullopt);
  // Token id or list of them.
  std::vector<int32_t> Tokens(const char* key);
  // The key may only be absent, null or equal to `value`.
  void Only(const char* key, const nlohmann::json& value);
  // Null where the key is absent or null.
  const nlohmann::json* Find(const char* key);

  // Remembers "source: message" unless there is an error already.
  void Fail(const std::string& message);
  // Remembers "source: key 'key': expected ..., found ...".
  void Wrong(const char* key, const std::string& expected,
             const nlohmann::json& found);
  absl::Status FirstError() const { return status_; }
  // The first error; else one for the first key that was neither asked for nor
  // is one of `neutral`, null or of the saving program ("_...",
  // "transformers...").
  absl::Status Finish(const std::set<std::string>& neutral);

 private:
  const nlohmann::json& object_;
  std::string source_;
  std::set<std::string> known_;
  absl::Status status_;
};

}  // namespace mpo::model
