// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo {

// NOT_FOUND unless `path` is a directory; `expected` says of what, as in "a run
// directory".
absl::Status CheckDirectory(const std::filesystem::path& path,
                            std::string_view expected);

// Whole file as bytes. NOT_FOUND when absent, RESOURCE_EXHAUSTED over
// `max_bytes`, UNAVAILABLE on a read error; the message names the path.
absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path,
                                     uint64_t max_bytes = uint64_t{1} << 32);

// Writes `bytes` so that after a crash the path holds either the old or the
// new content: temporary file, fsync, rename, fsync of the directory.
// RESOURCE_EXHAUSTED when the disk is full, UNAVAILABLE otherwise.
absl::Status WriteFileAtomically(const std::filesystem::path& path,
                                 std::string_view bytes);

// Appends to a file that is being written; errors as WriteFileAtomically.
using AppendBytes = std::function<absl::Status(std::string_view)>;

// WriteFileAtomically for content that is not in memory as a whole: `produce`
// appends it piece by piece and does not throw. Its error is handed up and
// leaves the old content.
absl::Status WritePiecesAtomically(
    const std::filesystem::path& path,
    const std::function<absl::Status(const AppendBytes&)>& produce);

// Makes a finished file or directory survive a power loss.
absl::Status SyncPath(const std::filesystem::path& path);

// Free bytes on the file system that holds `path` (its nearest existing
// parent).
absl::StatusOr<uint64_t> FreeBytes(const std::filesystem::path& path);

}  // namespace mpo
