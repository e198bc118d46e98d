// SPDX-License-Identifier: Apache-2.0
#include "mpo/base/descriptor.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace mpo {

namespace fs = std::filesystem;

absl::Status ErrnoStatus(const char* action, const fs::path& name) {
  const int error = errno;
  const std::string text =
      absl::StrCat(action, " ", name.string(), ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(text);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    default:
      return absl::UnavailableError(text);
  }
}

namespace {

// Of a read or a write: a directory or a descriptor that is not open this way
// stays so, unlike what else fails there.
absl::Status TransferStatus(const char* action, const fs::path& name) {
  const bool wrong_kind = errno == EISDIR || errno == EBADF;
  absl::Status status = ErrnoStatus(action, name);
  return wrong_kind ? absl::FailedPreconditionError(status.message()) : status;
}

}  // namespace

absl::StatusOr<std::string> ReadDescriptor(int fd, const fs::path& name,
                                           uint64_t max_bytes) {
  std::string bytes;
  std::string block(size_t{1} << 16, '\0');
  while (true) {
    const ssize_t got = read(fd, block.data(), block.size());
    if (got < 0) {
      if (errno == EINTR) continue;
      return TransferStatus("cannot read", name);
    }
    if (got == 0) return bytes;
    bytes.append(block, 0, static_cast<size_t>(got));
    if (bytes.size() > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          name.string(), " is larger than the limit of ", max_bytes, " bytes"));
    }
  }
}

absl::Status WriteDescriptor(int fd, const fs::path& name,
                             std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return TransferStatus("cannot write", name);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace mpo
