// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mpo::collective {

// One collective operation as the ranks compare it: all must enter the same.
struct Entry {
  int rank = 0;
  int64_t sequence = 0;   // Counts from 1.
  std::string operation;  // "all_reduce of gradients".
  int64_t bytes = 0;
  // How long a rank may neither enter nor get on with its work.
  absl::Duration patience = absl::Seconds(20);
};

// What one rank knows of its group and the side channel it has to the others:
// apart from the tensors, so that it still works when a transfer hangs. Once
// the group has ended every call returns why: UNAVAILABLE (a rank died) or
// DEADLINE_EXCEEDED (it kept the others waiting), with the rank in the message.
// Thread-safe.
class Membership {
 public:
  virtual ~Membership() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;

  // Blocks until all ranks have entered. INTERNAL: they entered different
  // operations. `entry.rank` is ignored.
  virtual absl::Status Enter(const Entry& entry) = 0;

  // A small store that all ranks share; values of at most 6 MiB.
  virtual absl::Status Put(const std::string& key, std::string value) = 0;
  // Blocks until the key has a value. DEADLINE_EXCEEDED after `timeout`,
  // CANCELLED when stopped.
  virtual absl::StatusOr<std::string> Get(const std::string& key,
                                          absl::Duration timeout,
                                          std::stop_token stop = {}) = 0;

  // Says that this rank gets on with its work, however long that takes.
  virtual void Progress() = 0;
  // Blocks until the group has ended and returns why; OK when it has not
  // within `timeout`.
  virtual absl::Status AwaitEnd(absl::Duration timeout) = 0;
};

}  // namespace mpo::collective
