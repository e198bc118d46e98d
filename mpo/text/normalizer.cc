// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

using nlohmann::json;

constexpr size_t kMaxSteps = 16;
constexpr size_t kMaxContentBytes = 64;
constexpr size_t kMaxBytes = size_t{64} << 20;
constexpr int kMaxNesting = 4;

// Combining characters that the reference implementation, whose tables are of
// an older Unicode, leaves where they stand. Found by asking both for every
// code point.
constexpr std::pair<char32_t, char32_t> kFixed[] = {
    {0x007FD, 0x007FD}, {0x00898, 0x0089F}, {0x008CA, 0x008D3},
    {0x009FE, 0x009FE}, {0x00C3C, 0x00C3C}, {0x00D3B, 0x00D3C},
    {0x00EBA, 0x00EBA}, {0x01715, 0x01715}, {0x01ABF, 0x01ACE},
    {0x01DF6, 0x01DFA}, {0x0A82C, 0x0A82C}, {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x16FF0, 0x16FF1},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}};

bool IsFixed(char32_t c) {
  if (c < kFixed[0].first) return false;
  for (const auto& [first, last] : kFixed) {
    if (c >= first && c <= last) return true;
  }
  return false;
}

absl::StatusOr<std::string> Compose(std::string_view text) {
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
      static_cast<utf8proc_ssize_t>(text.size()), &out,
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("normalisation failed: ", utf8proc_errmsg(size)));
  }
  std::string result(reinterpret_cast<const char*>(out),
                     static_cast<size_t>(size));
  std::free(out);
  return result;
}

absl::StatusOr<std::string> Nfc(std::string_view text) {
  std::string out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    DecodedChar c;
    DecodeChar(text.substr(at), c);
    const size_t end = at + static_cast<size_t>(c.length);
    if (IsFixed(c.code_point)) {
      MPO_ASSIGN_OR_RETURN(const std::string piece,
                           Compose(text.substr(begin, at - begin)));
      out.append(piece).append(text.substr(at, end - at));
      begin = end;
    }
    at = end;
  }
  MPO_ASSIGN_OR_RETURN(const std::string rest, Compose(text.substr(begin)));
  return out + rest;
}

absl::StatusOr<std::string> Replace(std::string_view text,
                                    std::string_view pattern,
                                    std::string_view content) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t found = std::min(text.find(pattern, at), text.size());
    out.append(text.substr(at, found - at));
    if (found < text.size()) out.append(content);
    at = found + pattern.size();
    if (out.size() > kMaxBytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "normalizer: the text grows beyond ", kMaxBytes, " bytes"));
    }
  }
  return out;
}

absl::StatusOr<std::string> Text(const json& spec, const char* key,
                                 size_t least) {
  const json value = spec.value(key, json());
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() >= least && text.size() <= kMaxContentBytes) return text;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("normalizer: ", key, ": expected a string of ", least,
                   " to ", kMaxContentBytes, " bytes, found ",
                   value.dump(-1, ' ', true).substr(0, 80)));
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Parse(const json& spec) {
  Normalizer result;
  if (!spec.is_null()) MPO_RETURN_IF_ERROR(result.Add(spec, 0));
  return result;
}

absl::Status Normalizer::Add(const json& spec, int depth) {
  const json named = spec.is_object() ? spec.value("type", json()) : json();
  const std::string type = named.is_string() ? named.get<std::string>() : "";
  const json list =
      type == "Sequence" ? spec.value("normalizers", json()) : json();
  if (list.is_array() && depth < kMaxNesting) {
    for (const json& step : list) MPO_RETURN_IF_ERROR(Add(step, depth + 1));
    return absl::OkStatus();
  }
  if (steps_.size() == kMaxSteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("normalizer: more than ", kMaxSteps, " steps"));
  }
  if (type == "NFC") {
    steps_.push_back({Step::Kind::kNfc, "", ""});
    return absl::OkStatus();
  }
  if (type == "Prepend") {
    MPO_ASSIGN_OR_RETURN(std::string content, Text(spec, "prepend", 1));
    steps_.push_back({Step::Kind::kPrepend, "", std::move(content)});
    return absl::OkStatus();
  }
  if (type == "Replace") return AddReplace(spec);
  return absl::UnimplementedError(
      absl::StrCat("normalizer: type \"", type.substr(0, 64),
                   "\", known are NFC, Prepend, Replace and none"));
}

absl::Status Normalizer::AddReplace(const json& spec) {
  const json pattern = spec.value("pattern", json());
  if (!pattern.is_object() || pattern.contains("Regex")) {
    return absl::UnimplementedError(
        "normalizer: Replace needs a pattern with String");
  }
  MPO_ASSIGN_OR_RETURN(std::string from, Text(pattern, "String", 1));
  MPO_ASSIGN_OR_RETURN(std::string to, Text(spec, "content", 0));
  steps_.push_back({Step::Kind::kReplace, std::move(from), std::move(to)});
  return absl::OkStatus();
}

absl::StatusOr<std::string> Normalizer::Apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::kNfc) {
      MPO_ASSIGN_OR_RETURN(out, Nfc(out));
    } else if (step.kind == Step::Kind::kPrepend) {
      if (!out.empty()) out.insert(0, step.content);
    } else {
      MPO_ASSIGN_OR_RETURN(out, Replace(out, step.pattern, step.content));
    }
  }
  return out;
}

}  // namespace mpo::text
