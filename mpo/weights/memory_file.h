// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/base/mutex.h"

namespace mpo::weights {

// Memory that a learner fills and the actors of its host map. Fresh pages cost
// more than what is written to them, so a file is filled again once nobody
// reads it: whoever reads holds a shared lock on the file (fcntl, F_OFD_SETLK,
// which ends with its holder), whoever fills it an exclusive one.

// What two processes must have in common to reach each other's memory files:
// the kernel they run on and the process ids they see.
struct HostGuard {
  std::string boot_id;         // /proc/sys/kernel/random/boot_id.
  uint64_t pid_namespace = 0;  // Inode of /proc/self/ns/pid.
  bool operator==(const HostGuard&) const = default;
};

// Of this process. UNAVAILABLE where /proc does not tell.
absl::StatusOr<HostGuard> OwnHostGuard();

// Where another process finds what was written to a memory file.
struct MemoryOffer {
  std::string path;      // "/proc/<pid>/fd/<number>".
  int64_t bytes = 0;     // Written.
  uint64_t inode = 0;    // Of the file; a number of a descriptor is used again.
  uint64_t edition = 0;  // Which filling of the file; above 0.
  HostGuard guard;
  bool operator==(const MemoryOffer&) const = default;
};

// A memory file (memfd_create) of this process. Nobody else can write, grow or
// shrink it (seals). Filled by one thread or several between Begin and Finish,
// read by any number after that.
class MemoryFile {
 public:
  // `bytes` at least 1; their memory is had at once. RESOURCE_EXHAUSTED or
  // UNAVAILABLE where the kernel gives none; FAILED_PRECONDITION for no bytes.
  static absl::StatusOr<std::unique_ptr<MemoryFile>> Create(int64_t bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int64_t size() const { return bytes_; }
  std::string_view bytes() const {
    return {static_cast<const char*>(data_), static_cast<size_t>(bytes_)};
  }

  // What was written before is gone. False, and nothing has changed, while
  // somebody reads it.
  bool Begin();
  // Thread-safe. INVALID_ARGUMENT past the end.
  absl::Status Write(int64_t offset, std::string_view bytes);
  // Others may read from now on. UNAVAILABLE as OwnHostGuard.
  absl::StatusOr<MemoryOffer> Finish();

 private:
  MemoryFile(int fd, int64_t bytes) : fd_(fd), bytes_(bytes) {}
  absl::Status Prepare();

  const int fd_;
  const int64_t bytes_;
  void* data_ = nullptr;  // Of the bytes, then the edition.
};

// Gives out memory files and takes them back to be filled again. Lives as long
// as one of its files. Thread-safe.
class MemoryFiles : public std::enable_shared_from_this<MemoryFiles> {
 public:
  static std::shared_ptr<MemoryFiles> New() {
    return std::shared_ptr<MemoryFiles>(new MemoryFiles());
  }

  // A file of `bytes` that has begun. Errors of MemoryFile::Create.
  absl::StatusOr<std::shared_ptr<MemoryFile>> Take(int64_t bytes)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  MemoryFiles() = default;
  void Return(std::unique_ptr<MemoryFile> file) ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;
  std::list<std::unique_ptr<MemoryFile>> idle_ ABSL_GUARDED_BY(mu_);
};

struct MappedFile;

// What another process has written, which stays as it is for as long as this
// object. Thread-safe.
class MemoryMap {
 public:
  MemoryMap(std::shared_ptr<MappedFile> file, std::string_view bytes)
      : file_(std::move(file)), bytes_(bytes) {}
  ~MemoryMap();
  MemoryMap(const MemoryMap&) = delete;
  MemoryMap& operator=(const MemoryMap&) = delete;

  std::string_view bytes() const { return bytes_; }

 private:
  const std::shared_ptr<MappedFile> file_;
  const std::string_view bytes_;
};

// Opens what other processes offer. The maps of the last few files are kept:
// the next filling of one is read without mapping it again. Thread-safe.
class MemoryMaps {
 public:
  MemoryMaps();
  ~MemoryMaps();

  // FAILED_PRECONDITION, saying why, for everything that calls for another way
  // of transport: another host or namespace, no permission, gone, not the file
  // that was offered, another size, one that could shrink, or one that is
  // filled again by now.
  absl::StatusOr<std::shared_ptr<const MemoryMap>> Open(
      const MemoryOffer& offer) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Mutex mu_;
  std::list<std::shared_ptr<MappedFile>> kept_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mpo::weights
