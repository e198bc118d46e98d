// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/time/time.h"
#include "mpo/base/mutex.h"

namespace mpo {

// Source of time, injected everywhere so that tests never sleep. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic; only differences mean anything. For leases and deadlines.
  virtual absl::Time Steady() const = 0;
  // Wall clock, for records people read.
  virtual absl::Time Wall() const = 0;

  // The process-wide real clock.
  static Clock& Real();
};

// A clock that stands still until told to move.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}
  absl::Time Steady() const override {
    MutexLock lock(mu_);
    return now_;
  }
  absl::Time Wall() const override { return Steady(); }
  void Advance(absl::Duration by) {
    MutexLock lock(mu_);
    now_ += by;
  }

 private:
  mutable Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mpo
