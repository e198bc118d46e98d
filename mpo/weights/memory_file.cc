// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::weights {
namespace {

// F_SEAL_FUTURE_WRITE leaves the owner's map as the only way to write.
constexpr int kSeals =
    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
// The edition lies behind the bytes.
constexpr int64_t kAlignment = 64;
// Files kept: one that is read, one that is filled, one for a late reader.
constexpr size_t kKept = 3;

int64_t EditionOffset(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
int64_t FileSize(int64_t bytes) { return EditionOffset(bytes) + kAlignment; }

std::atomic_ref<uint64_t> EditionIn(void* data, int64_t bytes) {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(
      static_cast<char*>(data) + EditionOffset(bytes)));
}

// Whether the lock of the open file could be had at once, or given back.
bool SetLock(int fd, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  while (::fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

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
  if (offer.bytes <= 0 || offer.bytes > found.st_size ||
      found.st_size != FileSize(offer.bytes)) {
    return Unusable(offer,
                    absl::StrCat("a file for ", offer.bytes,
                                 " bytes is expected, found ", found.st_size));
  }
  // One that shrinks under a reader would end it.
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

absl::StatusOr<std::unique_ptr<MemoryFile>> MemoryFile::Create(int64_t bytes) {
  if (bytes < 1) {
    return absl::FailedPreconditionError("a memory file needs a byte");
  }
  const int fd = ::memfd_create("mpo-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Failed("memfd_create");
  std::unique_ptr<MemoryFile> file(new MemoryFile(fd, bytes));
  MPO_RETURN_IF_ERROR(file->Prepare());
  return file;
}

absl::Status MemoryFile::Prepare() {
  const int64_t size = FileSize(bytes_);
  if (::ftruncate(fd_, size) != 0) return Failed("size a memory file");
  // Without this, memory that is short would be a signal while writing.
  if (::fallocate(fd_, 0, 0, size) != 0) return Failed("fill a memory file");
  void* const data =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) return Failed("map a memory file");
  data_ = data;
  if (::fcntl(fd_, F_ADD_SEALS, kSeals) != 0) return Failed("seal a file");
  return absl::OkStatus();
}

MemoryFile::~MemoryFile() {
  if (data_ != nullptr) ::munmap(data_, FileSize(bytes_));
  ::close(fd_);
}

bool MemoryFile::Begin() {
  // An exclusive lock needs a descriptor that could write, as this one.
  if (!SetLock(fd_, F_WRLCK)) return false;
  EditionIn(data_, bytes_) = 0;
  return true;
}

absl::Status MemoryFile::Write(int64_t offset, std::string_view bytes) {
  if (offset < 0 || offset > bytes_ ||
      static_cast<int64_t>(bytes.size()) > bytes_ - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset ", offset, ": ", bytes.size(),
                     " bytes reach past the file's ", bytes_));
  }
  std::memcpy(static_cast<char*>(data_) + offset, bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<MemoryOffer> MemoryFile::Finish() {
  static std::atomic<uint64_t> editions{0};
  MemoryOffer offer;
  struct stat own {};
  if (::fstat(fd_, &own) != 0) return Failed("a memory file");
  offer.path = absl::StrCat("/proc/", ::getpid(), "/fd/", fd_);
  offer.bytes = bytes_;
  offer.inode = own.st_ino;
  offer.edition = ++editions;
  MPO_ASSIGN_OR_RETURN(offer.guard, OwnHostGuard());
  EditionIn(data_, bytes_) = offer.edition;
  if (!SetLock(fd_, F_UNLCK)) return Failed("unlock a memory file");
  return offer;
}

absl::StatusOr<std::shared_ptr<MemoryFile>> MemoryFiles::Take(int64_t bytes) {
  std::unique_ptr<MemoryFile> taken;
  {
    MutexLock lock(mu_);
    idle_.remove_if([&](const auto& file) { return file->size() != bytes; });
    for (auto it = idle_.begin(); it != idle_.end(); ++it) {
      if (!(*it)->Begin()) continue;
      taken = std::move(*it);
      idle_.erase(it);
      break;
    }
  }
  if (taken == nullptr) {
    MPO_ASSIGN_OR_RETURN(taken, MemoryFile::Create(bytes));
    if (!taken->Begin()) return Failed("lock a memory file");
  }
  return std::shared_ptr<MemoryFile>(
      taken.release(), [pool = shared_from_this()](MemoryFile* file) {
        pool->Return(std::unique_ptr<MemoryFile>(file));
      });
}

void MemoryFiles::Return(std::unique_ptr<MemoryFile> file) {
  MutexLock lock(mu_);
  idle_.push_back(std::move(file));
  if (idle_.size() > kKept) idle_.pop_front();
}

// A file of another process, open and mapped.
struct MappedFile {
  MappedFile(int descriptor, void* address, const MemoryOffer& of)
      : fd(descriptor), data(address), bytes(of.bytes), inode(of.inode) {}
  ~MappedFile() {
    ::munmap(data, FileSize(bytes));
    ::close(fd);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // A reader more; the first one locks the file against filling.
  absl::Status Hold(const MemoryOffer& offer) ABSL_LOCKS_EXCLUDED(mu) {
    MutexLock lock(mu);
    if (readers == 0 && !SetLock(fd, F_RDLCK)) {
      return Unusable(offer, "is being filled again");
    }
    if (EditionIn(data, bytes) != offer.edition || offer.edition == 0) {
      if (readers == 0) SetLock(fd, F_UNLCK);
      return Unusable(offer, "holds something else by now");
    }
    ++readers;
    return absl::OkStatus();
  }
  void Release() ABSL_LOCKS_EXCLUDED(mu) {
    MutexLock lock(mu);
    if (--readers == 0) SetLock(fd, F_UNLCK);
  }

  const int fd;
  void* const data;
  const int64_t bytes;
  const uint64_t inode;
  Mutex mu;
  int readers ABSL_GUARDED_BY(mu) = 0;
};

namespace {

absl::StatusOr<std::shared_ptr<MappedFile>> MapFile(const MemoryOffer& offer) {
  // Not to wait where the descriptor is a pipe's.
  const int fd = ::open(offer.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Unusable(offer, std::strerror(errno));
  absl::Status usable = CheckFile(offer, fd);
  void* data = MAP_FAILED;
  if (usable.ok()) {
    data = ::mmap(nullptr, FileSize(offer.bytes), PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) usable = Unusable(offer, std::strerror(errno));
  }
  if (!usable.ok()) {
    ::close(fd);
    return usable;
  }
  return std::make_shared<MappedFile>(fd, data, offer);
}

}  // namespace

MemoryMap::~MemoryMap() { file_->Release(); }

MemoryMaps::MemoryMaps() = default;
MemoryMaps::~MemoryMaps() = default;

absl::StatusOr<std::shared_ptr<const MemoryMap>> MemoryMaps::Open(
    const MemoryOffer& offer) {
  const absl::StatusOr<HostGuard> own = OwnHostGuard();
  if (!own.ok()) return Unusable(offer, std::string(own.status().message()));
  if (offer.guard != *own) {
    return Unusable(offer, "is of another host or process namespace");
  }
  if (!IsDescriptorPath(offer.path)) {
    return Unusable(offer, "expected /proc/<pid>/fd/<number>");
  }
  std::shared_ptr<MappedFile> file;
  {
    MutexLock lock(mu_);
    // No two files that exist have one inode, and a map keeps its file.
    for (const auto& kept : kept_) {
      if (kept->inode == offer.inode && kept->bytes == offer.bytes) file = kept;
    }
    if (file == nullptr) {
      MPO_ASSIGN_OR_RETURN(file, MapFile(offer));
      kept_.push_back(file);
      if (kept_.size() > kKept) kept_.pop_front();
    }
  }
  MPO_RETURN_IF_ERROR(file->Hold(offer));
  const std::string_view bytes(static_cast<const char*>(file->data),
                               static_cast<size_t>(file->bytes));
  return std::make_shared<const MemoryMap>(std::move(file), bytes);
}

}  // namespace mpo::weights
