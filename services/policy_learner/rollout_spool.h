// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/mutex.h"

namespace mpo::policy_learner {

// One sample on its way to disk.
struct SpoolRecord {
  std::string key;    // Sample key, at most 255 bytes.
  int64_t step = 0;   // Step the sample was planned for.
  std::string bytes;  // Opaque: the serialised rollout and verdict.
};

struct AppendResult {
  int accepted = 0;
  int duplicates = 0;
};

// Rollouts received and not yet covered by a checkpoint, in append-only
// segment files. A record that was acknowledged survives a power loss; a torn
// tail is cut when the spool is opened. Record: u32 length, u32 CRC-32C of the
// payload, payload (i64 step, u8 key length, key, bytes); little-endian.
// Thread-safe.
class RolloutSpool {
 public:
  struct Options {
    std::filesystem::path directory;
    uint64_t max_bytes = uint64_t{8} << 30;
    uint64_t segment_bytes = uint64_t{4} << 20;  // Then a new file begins.
  };

  // Opens or creates the spool. DATA_LOSS when a record before the tail of the
  // last segment is damaged; UNAVAILABLE or RESOURCE_EXHAUSTED as files do.
  static absl::StatusOr<std::unique_ptr<RolloutSpool>> Open(
      const Options& options);
  ~RolloutSpool();

  // Writes all records that are new and returns once they are on disk; blocks
  // for one fsync. Known keys, and steps dropped already, are duplicates.
  // RESOURCE_EXHAUSTED when disk or spool is full, UNAVAILABLE on another
  // error; then nothing of the call is kept.
  absl::StatusOr<AppendResult> Append(const std::vector<SpoolRecord>& records)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Waits until every key is there. DEADLINE_EXCEEDED names how many are
  // missing and one of them; CANCELLED when stopped.
  absl::Status WaitFor(const std::vector<std::string>& keys,
                       std::stop_token stop, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Bytes of the record. NOT_FOUND, DATA_LOSS on a wrong checksum.
  absl::StatusOr<std::string> Read(const std::string& key) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // Forgets samples of steps up to `step` and deletes segments that hold no
  // later ones.
  absl::Status DropThrough(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);

  // Records. Never waits for the disk.
  int64_t size() const { return size_; }

 private:
  struct Segment {
    std::filesystem::path path;
    int64_t number = 0;
    int fd = -1;
    uint64_t bytes = 0;
    int64_t newest_step = 0;
    bool broken = false;  // An fsync failed: written to no more.
  };
  struct Entry {
    Segment* segment;
    uint64_t offset;  // Of the payload.
    uint32_t length;
    uint32_t crc32c;
    int64_t step;
  };

  explicit RolloutSpool(Options options) : options_(std::move(options)) {}
  absl::Status LoadSegment(const std::filesystem::path& path, int64_t number,
                           bool last) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Indexes the records of `content`; returns the end of the last whole one.
  uint64_t Index(Segment& segment, std::string_view content)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status StartSegment() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Appends and syncs, or leaves the segment as it was.
  absl::Status Write(Segment& segment, std::string_view bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  mutable Mutex mu_;
  CondVar arrived_;
  std::list<Segment> segments_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::atomic<int64_t> size_ = 0;  // Of entries_.
  int64_t dropped_through_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mpo::policy_learner
