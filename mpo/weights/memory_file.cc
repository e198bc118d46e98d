// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::weights {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

absl::Status Failed(const std::string& what) {
  const int error = errno;
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
  return error == ENOSPC || error == ENOMEM || error == EMFILE
             ? absl::ResourceExhaustedError(message)
             : absl::UnavailableError(message);
}

absl::Status Unusable(const MemoryOffer& offer, const std::string& why) {
  return absl::FailedPreconditionError(absl::StrCat(offer.path, ": ", why));
}

// Whether a learner that tells the truth could have named this: nothing else
// is opened, whatever the learner says.
bool IsDescriptorPath(const std::string& path) {
  constexpr char kDigits[] = "0123456789";
  std::string_view rest = path;
  for (const std::string_view part : {"/proc/", "/fd/"}) {
    if (rest.substr(0, part.size()) != part) return false;
    rest.remove_prefix(part.size());
    const size_t digits =
        std::min(rest.find_first_not_of(kDigits), rest.size());
    if (digits == 0) return false;
    rest.remove_prefix(digits);
  }
  return rest.empty();
}

// Whether `fd` is the file of the offer and can never change.
absl::Status CheckFile(const MemoryOffer& offer, int fd) {
  struct stat found {};
  if (::fstat(fd, &found) != 0) {
    return Unusable(offer, std::strerror(errno));
  }
  if (found.st_ino != offer.inode) {
    return Unusable(offer, "is another file by now");
  }
  if (found.st_size != offer.bytes || offer.bytes <= 0) {
    return Unusable(offer, absl::StrCat("expected ", offer.bytes,
                                        " bytes, found ", found.st_size));
  }
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return Unusable(offer, "is not sealed");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HostGuard> OwnHostGuard() {
  HostGuard guard;
  MPO_ASSIGN_OR_RETURN(const std::string text,
                       ReadFile("/proc/sys/kernel/random/boot_id", 128));
  guard.boot_id = std::string(absl::StripAsciiWhitespace(text));
  struct stat pids {};
  if (::stat("/proc/self/ns/pid", &pids) != 0) {
    return Failed("/proc/self/ns/pid");
  }
  guard.pid_namespace = pids.st_ino;
  return guard;
}

absl::StatusOr<std::shared_ptr<const MemoryMap>> MemoryMap::Open(
    const MemoryOffer& offer) {
  const absl::StatusOr<HostGuard> own = OwnHostGuard();
  if (!own.ok()) return Unusable(offer, std::string(own.status().message()));
  if (offer.guard != *own) {
    return Unusable(offer, "is of another host or process namespace");
  }
  if (!IsDescriptorPath(offer.path)) {
    return Unusable(offer, "expected /proc/<pid>/fd/<number>");
  }
  // Not to wait where the descriptor is a pipe's.
  const int fd = ::open(offer.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Unusable(offer, std::strerror(errno));
  absl::Status usable = CheckFile(offer, fd);
  void* data = MAP_FAILED;
  if (usable.ok()) {
    data = ::mmap(nullptr, offer.bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) usable = Unusable(offer, std::strerror(errno));
  }
  if (!usable.ok()) {
    ::close(fd);
    return usable;
  }
  return std::shared_ptr<const MemoryMap>(
      new MemoryMap(fd, data, static_cast<size_t>(offer.bytes)));
}

MemoryMap::~MemoryMap() {
  ::munmap(data_, size_);
  ::close(fd_);
}

absl::StatusOr<std::unique_ptr<MemoryFile>> MemoryFile::Create(int64_t bytes) {
  if (bytes < 1) {
    return absl::FailedPreconditionError("a memory file needs a byte");
  }
  const int fd = ::memfd_create("mpo-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Failed("memfd_create");
  std::unique_ptr<MemoryFile> file(new MemoryFile(fd, bytes));
  if (::ftruncate(fd, bytes) != 0) return Failed("size a memory file");
  return file;
}

MemoryFile::~MemoryFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status MemoryFile::Write(int64_t offset, std::string_view bytes) const {
  if (offset < 0 || offset > bytes_ ||
      static_cast<int64_t>(bytes.size()) > bytes_ - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset ", offset, ": ", bytes.size(),
                     " bytes reach past the file's ", bytes_));
  }
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return Failed("write a memory file");
    offset += written;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const MemoryMap>> MemoryFile::Seal() {
  if (::fcntl(fd_, F_ADD_SEALS, kSeals) != 0) return Failed("seal a file");
  void* const data = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) return Failed("map a memory file");
  return std::shared_ptr<const MemoryMap>(
      new MemoryMap(std::exchange(fd_, -1), data, static_cast<size_t>(bytes_)));
}

absl::StatusOr<MemoryOffer> MemoryFile::Offer() const {
  MemoryOffer offer;
  struct stat own {};
  if (::fstat(fd_, &own) != 0) return Failed("a memory file");
  offer.path = absl::StrCat("/proc/", ::getpid(), "/fd/", fd_);
  offer.bytes = bytes_;
  offer.inode = own.st_ino;
  MPO_ASSIGN_OR_RETURN(offer.guard, OwnHostGuard());
  return offer;
}

}  // namespace mpo::weights
