// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "absl/status/statusor.h"

namespace mpo::cli {

// A run directory this process alone may train in, until the object goes or
// the process ends, however it ends (flock). Not thread-safe; movable.
class RunDirectory {
 public:
  // Creates the directory where it is missing. ALREADY_EXISTS: another
  // `mpo train` holds it. FAILED_PRECONDITION: it cannot be made or written.
  static absl::StatusOr<RunDirectory> Lock(
      const std::filesystem::path& directory);
  ~RunDirectory();
  RunDirectory(RunDirectory&& other) noexcept;
  RunDirectory& operator=(RunDirectory&&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  RunDirectory(std::filesystem::path path, int fd)
      : path_(std::move(path)), fd_(fd) {}
  std::filesystem::path path_;
  int fd_;
};

}  // namespace mpo::cli
