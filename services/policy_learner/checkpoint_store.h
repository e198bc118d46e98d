// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::policy_learner {

// Checkpoints as directories `step_<N>` whose MANIFEST.json (format version,
// step, configuration digest; size and SHA-256 of every file) is written last:
// a directory counts only when its manifest is right. Written to a temporary
// directory, synced and renamed. Not thread-safe.
class CheckpointStore {
 public:
  static constexpr int kFormatVersion = 1;

  struct Options {
    std::filesystem::path directory;
    std::string config_sha256;
    int kept = 2;            // Newest ones that stay.
    int64_t keep_every = 0;  // So do those of every m-th step; 0 = none.
  };
  struct Checkpoint {
    int64_t step = 0;
    std::filesystem::path path;
  };

  explicit CheckpointStore(Options options) : options_(std::move(options)) {}

  // Runs `fill` on an empty directory and keeps what it wrote as the
  // checkpoint of `step`; one that is there already is left as it is. Deletes
  // the oldest beyond `kept`. RESOURCE_EXHAUSTED, before anything is written,
  // when less than `expected_bytes` x 2 is free.
  absl::StatusOr<Checkpoint> Write(
      int64_t step, uint64_t expected_bytes,
      const std::function<absl::Status(const std::filesystem::path&)>& fill);

  // The newest whole checkpoint, or none when there is none at all. A damaged
  // one is logged and the one before is used; DATA_LOSS when the `kept` newest
  // are damaged.
  // FAILED_PRECONDITION when it is of another configuration or format.
  absl::StatusOr<std::optional<Checkpoint>> Newest() const;

  // The oldest step a restart may fall back to: that of the `kept`-th newest
  // directory; 0 when there are fewer (training may begin from the start).
  int64_t OldestStep() const;

  // A checkpoint by its directory, of whatever configuration. NOT_FOUND,
  // DATA_LOSS, FAILED_PRECONDITION (another format).
  static absl::StatusOr<Checkpoint> Read(const std::filesystem::path& path);

 private:
  absl::Status Seal(int64_t step, const std::filesystem::path& directory) const;
  // That the checkpoint is whole and of this configuration.
  absl::Status Verify(const Checkpoint& checkpoint) const;

  const Options options_;
};

}  // namespace mpo::policy_learner
