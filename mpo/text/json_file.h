// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mpo::text {

// Deepest nesting of arrays and objects a model's JSON file may have.
inline constexpr int kMaxJsonDepth = 32;

// Parses untrusted JSON whose top is an object. INVALID_ARGUMENT when it is
// not valid JSON, not UTF-8 or nested deeper than kMaxJsonDepth; `name` says
// in the message where it came from.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view bytes,
                                               const std::string& name);

// Reads and parses such a file. NOT_FOUND, RESOURCE_EXHAUSTED over
// `max_bytes`, INVALID_ARGUMENT as above.
absl::StatusOr<nlohmann::json> ReadJsonObject(const std::filesystem::path& path,
                                              uint64_t max_bytes);

}  // namespace mpo::text
