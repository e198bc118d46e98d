// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Whole reads and writes of open descriptors; `name` is what messages call
// them, mostly the path.
namespace mpo {

// "`action` `name`: reason" of the errno of a call that has just failed:
// NOT_FOUND, RESOURCE_EXHAUSTED for a full disk or quota, PERMISSION_DENIED,
// UNAVAILABLE for the rest.
absl::Status ErrnoStatus(const char* action, const std::filesystem::path& name);

// To the end. RESOURCE_EXHAUSTED over `max_bytes`; here and below
// FAILED_PRECONDITION for a directory or a descriptor that is not open this
// way.
absl::StatusOr<std::string> ReadDescriptor(int fd,
                                           const std::filesystem::path& name,
                                           uint64_t max_bytes = uint64_t{1}
                                                                << 32);

// All of `bytes`, or an error.
absl::Status WriteDescriptor(int fd, const std::filesystem::path& name,
                             std::string_view bytes);

}  // namespace mpo
