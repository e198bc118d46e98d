// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <stop_token>

#include "absl/time/time.h"
#include "mpo/base/mutex.h"

namespace mpo::http {

// Pauses between tries: a random share (full jitter) of a longest pause that
// doubles from `first` to `longest`. Thread-safe.
class Backoff {
 public:
  Backoff(absl::Duration first, absl::Duration longest, uint64_t seed)
      : first_(first), longest_(longest), random_(seed) {}

  // Before retry number `retry`, counted from 0.
  absl::Duration Pause(int retry) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const absl::Duration first_;
  const absl::Duration longest_;
  Mutex mu_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mu_);
};

// Waits; false as soon as `stop` is requested.
bool Wait(absl::Duration pause, std::stop_token stop);

}  // namespace mpo::http
