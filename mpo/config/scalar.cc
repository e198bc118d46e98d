// SPDX-License-Identifier: Apache-2.0
#include "mpo/config/scalar.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace mpo::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string Got(const std::string& text) {
  return absl::StrCat(", got \"", text, "\"");
}

std::string OutOfRange(const v1::Rule& rule, double value,
                       const std::string& text) {
  if (rule.has_min() && value < rule.min()) {
    return absl::StrFormat("expected at least %g, got %s", rule.min(), text);
  }
  if (rule.has_max() && value > rule.max()) {
    return absl::StrFormat("expected at most %g, got %s", rule.max(), text);
  }
  return "";
}

std::string SetString(const std::string& text, const v1::Rule& rule,
                      const FieldDescriptor& field, Message& message) {
  const auto& allowed = rule.one_of();
  if (!allowed.empty() &&
      std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
    return absl::StrCat("expected one of ", absl::StrJoin(allowed, ", "),
                        Got(text));
  }
  if (rule.required() && text.empty()) return "expected a value, got none";
  if (field.is_repeated()) {
    message.GetReflection()->AddString(&message, &field, text);
  } else {
    message.GetReflection()->SetString(&message, &field, text);
  }
  return "";
}

std::string SetInteger(const std::string& text, const v1::Rule& rule,
                       const FieldDescriptor& field, Message& message) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return "expected a whole number" + Got(text);
  }
  if (std::string problem = OutOfRange(rule, static_cast<double>(value), text);
      !problem.empty()) {
    return problem;
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
    message.GetReflection()->SetInt64(&message, &field, value);
    return "";
  }
  if (value < INT32_MIN || value > INT32_MAX) {
    return "expected a number of at most 31 bits, got " + text;
  }
  message.GetReflection()->SetInt32(&message, &field,
                                    static_cast<int32_t>(value));
  return "";
}

}  // namespace

std::string SetScalar(const std::string& text, const v1::Rule& rule,
                      const FieldDescriptor& field, Message& message) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return SetString(text, rule, field, message);
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return SetInteger(text, rule, field, message);
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
        return "expected a number" + Got(text);
      }
      if (std::string problem = OutOfRange(rule, value, text);
          !problem.empty()) {
        return problem;
      }
      message.GetReflection()->SetDouble(&message, &field, value);
      return "";
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") {
        return "expected true or false" + Got(text);
      }
      message.GetReflection()->SetBool(&message, &field, text == "true");
      return "";
    default:
      return absl::StrCat("the type ", field.type_name(),
                          " is not supported in configurations");
  }
}

namespace {

// A double-quoted YAML scalar.
std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", static_cast<int>(byte));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

// The shortest text that reads back to the same number.
std::string Shortest(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

}  // namespace

std::string ScalarToYaml(const Message& message, const FieldDescriptor& field,
                         int index) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return Quote(index < 0
                       ? reflection.GetString(message, &field)
                       : reflection.GetRepeatedString(message, &field, index));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Shortest(reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    default:
      return "";
  }
}

}  // namespace mpo::config
