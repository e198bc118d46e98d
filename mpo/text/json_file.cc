// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/json_file.h"

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::text {
namespace {

// Counts brackets outside strings: cheaper and safer than to build the tree.
bool TooDeep(std::string_view bytes) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view bytes,
                                               const std::string& name) {
  if (TooDeep(bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": json is nested deeper than ", kMaxJsonDepth, " levels"));
  }
  nlohmann::json parsed = nlohmann::json::parse(bytes.begin(), bytes.end(),
                                                /*cb=*/nullptr,
                                                /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not valid json"));
  }
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": expected a json object, got ", parsed.type_name()));
  }
  return parsed;
}

absl::StatusOr<nlohmann::json> ReadJsonObject(const std::filesystem::path& path,
                                              uint64_t max_bytes) {
  MPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, max_bytes));
  return ParseJsonObject(bytes, path.string());
}

}  // namespace mpo::text
