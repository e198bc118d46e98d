// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mpo::logging {

// One `name=value` of a log line. Implicit from numbers, strings, statuses.
class Field {
 public:
  Field(const char* name, const std::string& value);
  Field(const char* name, const char* value);
  Field(const char* name, absl::string_view value);
  Field(const char* name, const absl::Status& value);
  Field(const char* name, bool value);
  Field(const char* name, double value);
  template <typename T>
    requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
  Field(const char* name, T value) : Field(name, std::to_string(value)) {}

  const std::string& text() const { return text_; }

 private:
  std::string text_;  // "name=value", quoted where it holds spaces.
};

using Fields = std::initializer_list<Field>;

// Sends lines to stderr as
//   2026-01-02T03:04:05.678Z INFO reward_server rubric installed version=3
// from now on. `process` names the process in every line. Before the call,
// lines go out without a name. Not thread-safe; call once in main.
void Start(const std::string& process);

// One line an event: constant text plus fields. A line is cut at 8 KiB.
// INFO = state change, WARNING = handled, ERROR = a person should look.
// Thread-safe.
void Info(const char* event, Fields fields = {});
void Warning(const char* event, Fields fields = {});
void Error(const char* event, Fields fields = {});

// Lines logged so far, by level name ("info", "warning", "error").
int64_t LineCount(const char* level);

}  // namespace mpo::logging
