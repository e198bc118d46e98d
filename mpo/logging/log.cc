// SPDX-License-Identifier: Apache-2.0
#include "mpo/logging/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cctype>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace mpo::logging {
namespace {

constexpr size_t kMaxLine = 8192;

std::atomic<int64_t> info_lines{0};
std::atomic<int64_t> warning_lines{0};
std::atomic<int64_t> error_lines{0};

// Control characters would let a response forge log lines.
std::string Quoted(absl::string_view value) {
  bool plain = !value.empty();
  for (const char c : value) {
    plain = plain && std::isgraph(static_cast<unsigned char>(c)) != 0 &&
            c != '"' && c != '\\';
  }
  if (plain) return std::string(value);
  std::string quoted = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppend(&quoted, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

void Write(spdlog::level::level_enum level, const char* event, Fields fields) {
  std::string line = event;
  for (const Field& field : fields) {
    line += ' ';
    line += field.text();
  }
  if (line.size() > kMaxLine) {
    line.resize(kMaxLine - 4);
    line += " ...";
  }
  Logger().log(level, line);
}

}  // namespace

Field::Field(const char* name, const std::string& value)
    : text_(absl::StrCat(name, "=", Quoted(value))) {}
Field::Field(const char* name, const char* value)
    : Field(name, std::string(value)) {}
Field::Field(const char* name, absl::string_view value)
    : Field(name, std::string(value)) {}
Field::Field(const char* name, const absl::Status& value)
    : Field(name, value.ToString()) {}
Field::Field(const char* name, bool value)
    : Field(name, value ? "true" : "false") {}
Field::Field(const char* name, double value)
    : text_(absl::StrCat(name, "=", value)) {}

void Start(const std::string& process) {
  Logger().set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ " + process + " %v",
                       spdlog::pattern_time_type::utc);
}

void Info(const char* event, Fields fields) {
  ++info_lines;
  Write(spdlog::level::info, event, fields);
}
void Warning(const char* event, Fields fields) {
  ++warning_lines;
  Write(spdlog::level::warn, event, fields);
}
void Error(const char* event, Fields fields) {
  ++error_lines;
  Write(spdlog::level::err, event, fields);
}

int64_t LineCount(const char* level) {
  if (std::strcmp(level, "warning") == 0) return warning_lines;
  if (std::strcmp(level, "error") == 0) return error_lines;
  return info_lines;
}

}  // namespace mpo::logging
