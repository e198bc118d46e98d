// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace mpo::http {

// A credential that cannot be printed, compared or converted by accident; only
// `Reveal` gives it out. Copyable; immutable, so thread-safe.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value) : value_(std::move(value)) {}

  bool empty() const { return value_.empty(); }
  // The bytes themselves; only for the request that needs them.
  const std::string& Reveal() const { return value_; }

 private:
  std::string value_;
};

// Reads a secret from a file, white space at both ends removed. NOT_FOUND when
// absent; INVALID_ARGUMENT when empty, over 64 KiB or holding control
// characters (a header could not carry it). The message never holds the
// content.
absl::StatusOr<Secret> ReadSecretFile(const std::filesystem::path& path);

}  // namespace mpo::http
