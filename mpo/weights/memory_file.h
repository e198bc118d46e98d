// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::weights {

// What two processes must have in common to reach each other's memory files:
// the kernel they run on and the process ids they see.
struct HostGuard {
  std::string boot_id;         // /proc/sys/kernel/random/boot_id.
  uint64_t pid_namespace = 0;  // Inode of /proc/self/ns/pid.
  bool operator==(const HostGuard&) const = default;
};

// Of this process. UNAVAILABLE where /proc does not tell.
absl::StatusOr<HostGuard> OwnHostGuard();

// Where another process finds a memory file.
struct MemoryOffer {
  std::string path;    // "/proc/<pid>/fd/<number>".
  int64_t bytes = 0;   // Size of the file.
  uint64_t inode = 0;  // Of the file; a number of a descriptor is used again.
  HostGuard guard;
  bool operator==(const MemoryOffer&) const = default;
};

// An open memory file (memfd_create) and its read-only map. Both last as long
// as the object; whoever has mapped the file keeps its pages beyond that.
class MemoryMap {
 public:
  // Opens what another process offers. FAILED_PRECONDITION, saying why, for
  // everything that calls for another way of transport: another host or
  // namespace, no permission, gone, not the file that was offered, another
  // size, or one that its owner could still change.
  static absl::StatusOr<std::shared_ptr<const MemoryMap>> Open(
      const MemoryOffer& offer);
  ~MemoryMap();
  MemoryMap(const MemoryMap&) = delete;
  MemoryMap& operator=(const MemoryMap&) = delete;

  // Nobody can change these bytes any more. Thread-safe.
  std::string_view bytes() const {
    return {static_cast<const char*>(data_), size_};
  }

 private:
  friend class MemoryFile;
  MemoryMap(int fd, void* data, size_t size)
      : fd_(fd), data_(data), size_(size) {}

  const int fd_;
  void* const data_;
  const size_t size_;
};

// A memory file that is being filled.
class MemoryFile {
 public:
  // `bytes` at least 1. RESOURCE_EXHAUSTED or UNAVAILABLE where the kernel
  // gives none; FAILED_PRECONDITION for no bytes.
  static absl::StatusOr<std::unique_ptr<MemoryFile>> Create(int64_t bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // Thread-safe. RESOURCE_EXHAUSTED when memory is short; INVALID_ARGUMENT past
  // the end.
  absl::Status Write(int64_t offset, std::string_view bytes) const;

  // From now on nobody, this process included, can write, grow or shrink the
  // file. Call once, and nothing else after it. UNAVAILABLE: the kernel
  // refuses.
  absl::StatusOr<std::shared_ptr<const MemoryMap>> Seal();

  // Good once the file is sealed, for as long as the map that Seal returns.
  // UNAVAILABLE as OwnHostGuard.
  absl::StatusOr<MemoryOffer> Offer() const;

 private:
  MemoryFile(int fd, int64_t bytes) : fd_(fd), bytes_(bytes) {}

  int fd_;
  const int64_t bytes_;
};

}  // namespace mpo::weights
