// SPDX-License-Identifier: Apache-2.0
#include "cli/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mpo::cli {

absl::StatusOr<RunDirectory> RunDirectory::Lock(
    const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the run directory ", directory.string(), ": ",
                     error.message()));
  }
  const std::filesystem::path path = directory / "train.lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot write ", path.string(), ": ", std::strerror(errno)));
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return absl::AlreadyExistsError(absl::StrCat(
        "another mpo train works in ", directory.string(),
        "; wait for it, stop it, or give another directory with --dir"));
  }
  return RunDirectory(std::filesystem::absolute(directory), fd);
}

RunDirectory::RunDirectory(RunDirectory&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

RunDirectory::~RunDirectory() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace mpo::cli
