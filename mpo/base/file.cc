// SPDX-License-Identifier: Apache-2.0
#include "mpo/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/descriptor.h"
#include "mpo/base/status_macros.h"

namespace mpo {

namespace fs = std::filesystem;

absl::StatusOr<std::string> ReadFile(const fs::path& path, uint64_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot open", path);
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  return ReadDescriptor(fd, path, max_bytes);
}

absl::Status CheckDirectory(const fs::path& path, std::string_view expected) {
  std::error_code error;
  if (fs::is_directory(path, error)) return absl::OkStatus();
  if (error && error != std::errc::no_such_file_or_directory &&
      error != std::errc::not_a_directory) {
    return absl::PermissionDeniedError(
        absl::StrCat(path.string(), ": ", error.message()));
  }
  return absl::NotFoundError(
      absl::StrCat(path.string(), ": expected ", std::string(expected),
                   fs::exists(path, error) ? ", found something else"
                                           : ", there is nothing"));
}

absl::Status WriteFileAtomically(const fs::path& path, std::string_view bytes) {
  return WritePiecesAtomically(
      path, [&](const AppendBytes& append) { return append(bytes); });
}

absl::Status WritePiecesAtomically(
    const fs::path& path,
    const std::function<absl::Status(const AppendBytes&)>& produce) {
  fs::path temporary = path;
  temporary += absl::StrCat(".tmp.", getpid());
  // What replaces a file is no more readable than it.
  struct stat before = {};
  const bool replaces =
      stat(path.c_str(), &before) == 0 && S_ISREG(before.st_mode);
  const mode_t mode = replaces ? before.st_mode & 0777 : 0644;
  std::error_code none;
  if (fs::is_regular_file(temporary, none)) fs::remove(temporary, none);
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return ErrnoStatus("cannot create", temporary);
  absl::Status status;
  struct stat made = {};
  if (replaces && (fstat(fd, &made) != 0 || (made.st_mode & 0777) != mode) &&
      fchmod(fd, mode) != 0)
    status = ErrnoStatus("cannot set the mode of", temporary);
  if (status.ok())
    status = produce([&](std::string_view bytes) {
      return WriteDescriptor(fd, temporary, bytes);
    });
  if (status.ok() && fsync(fd) != 0)
    status = ErrnoStatus("cannot sync", temporary);
  if (close(fd) != 0 && status.ok())
    status = ErrnoStatus("cannot close", temporary);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus("cannot rename to", path);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncPath(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

absl::Status SyncPath(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot open", path);
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  if (fsync(fd) != 0) return ErrnoStatus("cannot sync", path);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FreeBytes(const fs::path& path) {
  std::error_code error;
  fs::path probe = fs::absolute(path, error);
  while (!fs::exists(probe, error) && probe.has_parent_path() &&
         probe != probe.parent_path()) {
    probe = probe.parent_path();
  }
  const fs::space_info info = fs::space(probe, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot ask for free space of ",
                                               probe.string(), ": ",
                                               error.message()));
  }
  return info.available;
}

}  // namespace mpo
