// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTensors = 100'000;
constexpr size_t kMaxDimensions = 8;
constexpr size_t kMaxDepth = 3;

absl::Status Malformed(const std::string& source, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", message));
}

// Looks for what the tree would hide: repeated keys and deep nesting. (The
// parser's own callback would visit every sibling after every object.)
class Strictness : public nlohmann::json_sax<Json> {
 public:
  const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return Enter(); }
  bool start_array(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    problem_ = absl::StrCat("duplicate key '", key, "'");
    return false;
  }
  bool parse_error(size_t at, const std::string&,
                   const nlohmann::detail::exception&) override {
    problem_ = absl::StrCat("the header is not JSON at byte ", at);
    return false;
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    problem_ = "the header is nested too deeply";
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::unordered_set<std::string>> keys_;  // Of open objects.
  std::string problem_;
};

absl::StatusOr<Json> ParseStrictly(std::string_view text,
                                   const std::string& source) {
  Strictness strictness;
  Json::sax_parse(text.begin(), text.end(), &strictness);
  if (!strictness.problem().empty())
    return Malformed(source, strictness.problem());
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return Malformed(source, "the header is not a JSON object");
  return json;
}

std::optional<uint64_t> Offset(const Json& json) {
  if (json.is_number_unsigned()) return json.get<uint64_t>();
  return std::nullopt;
}

// Bytes of an element; 0 for a name that is not known.
uint64_t ElementBytes(const std::string& dtype) {
  static constexpr std::pair<const char*, uint64_t> kBytes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},   {"I16", 2}, {"I32", 4},
      {"I64", 8},  {"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F64", 8}};
  for (const auto& [name, bytes] : kBytes) {
    if (dtype == name) return bytes;
  }
  return 0;
}

// Fills entry.shape and returns the bytes that it and entry.dtype need.
absl::StatusOr<uint64_t> ReadShape(const Json& json, SafetensorsEntry& entry,
                                   const std::string& source) {
  uint64_t bytes = ElementBytes(entry.dtype);
  if (bytes == 0) {
    return Malformed(
        source,
        absl::StrCat("dtype: expected one of BOOL, U8, I8, I16, I32, I64, F16, "
                     "BF16, F32, F64, found '",
                     entry.dtype.substr(0, 32), "'"));
  }
  if (json.size() > kMaxDimensions) {
    return Malformed(source,
                     absl::StrCat("shape: expected at most ", kMaxDimensions,
                                  " dimensions, found ", json.size()));
  }
  for (const Json& dimension : json) {
    const auto size = Offset(dimension);
    if (!size.has_value() || *size > uint64_t{INT64_MAX} ||
        __builtin_mul_overflow(bytes, *size, &bytes) ||
        bytes > uint64_t{INT64_MAX}) {
      return Malformed(
          source, "shape: a dimension is no size, or the product too large");
    }
    entry.shape.push_back(static_cast<int64_t>(*size));
  }
  return bytes;
}

absl::StatusOr<SafetensorsEntry> ParseEntry(const Json& json, uint64_t payload,
                                            const std::string& source) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") ||
      !json.contains("shape") || !json.contains("data_offsets") ||
      !json["dtype"].is_string() || !json["shape"].is_array() ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    return Malformed(source, "expected exactly dtype, shape and data_offsets");
  }
  SafetensorsEntry entry;
  entry.dtype = json["dtype"].get<std::string>();
  MPO_ASSIGN_OR_RETURN(const uint64_t bytes,
                       ReadShape(json["shape"], entry, source));
  const auto begin = Offset(json["data_offsets"][0]);
  const auto end = Offset(json["data_offsets"][1]);
  if (!begin.has_value() || !end.has_value() || *begin > *end ||
      *end > payload) {
    return Malformed(source, absl::StrCat("data_offsets outside the ", payload,
                                          " bytes of the file"));
  }
  if (*end - *begin != bytes) {
    return Malformed(
        source, absl::StrCat("expected ", bytes, " bytes, data_offsets give ",
                             *end - *begin));
  }
  entry.begin = *begin;
  entry.end = *end;
  return entry;
}

absl::Status CheckCoverage(const SafetensorsHeader& header, uint64_t payload,
                           const std::string& source) {
  std::vector<std::pair<const SafetensorsEntry*, const std::string*>> order;
  for (const auto& [name, entry] : header.entries)
    order.emplace_back(&entry, &name);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) <
           std::pair(b.first->begin, b.first->end);
  });
  uint64_t at = 0;
  for (const auto& [entry, name] : order) {
    if (entry->begin != at) {
      return Malformed(
          source, absl::StrCat("tensor '", *name, "' begins at ", entry->begin,
                               ", expected ", at, " (overlap or hole)"));
    }
    at = entry->end;
  }
  if (at != payload) {
    return Malformed(source,
                     absl::StrCat("tensors end at byte ", at, " of ", payload));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    std::string_view text, uint64_t payload, std::string_view source_name) {
  const std::string source(source_name);
  if (text.empty() || text.front() != '{')
    return Malformed(source, "the header must begin with {");
  MPO_ASSIGN_OR_RETURN(Json json, ParseStrictly(text, source));
  if (json.size() > kMaxTensors) {
    return Malformed(source, absl::StrCat("expected at most ", kMaxTensors,
                                          " tensors, found ", json.size()));
  }
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object())
        return Malformed(source, "__metadata__ is not an object");
      for (const auto& [key, item] : value.items()) {
        if (!item.is_string())
          return Malformed(source, "__metadata__ holds more than strings");
        header.metadata[key] = item.get<std::string>();
      }
      continue;
    }
    MPO_ASSIGN_OR_RETURN(
        header.entries[name],
        ParseEntry(value, payload,
                   absl::StrCat(source, ": tensor '", name, "'")));
  }
  MPO_RETURN_IF_ERROR(CheckCoverage(header, payload, source));
  return header;
}

}  // namespace mpo::model
