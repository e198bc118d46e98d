// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>

#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"

namespace mpo::judge {

enum class CircuitState { kClosed, kOpen, kHalfOpen };

// "closed", "open" or "half_open".
const char* Name(CircuitState state);

struct CircuitBreakerOptions {
  int window = 20;             // Calls looked back on, >= 1.
  double failure_share = 0.5;  // Opens at this share of a full window, (0, 1].
  absl::Duration open_for = absl::Seconds(10);
};

// Keeps calls away from a server that keeps failing: opens when at least
// `failure_share` of the last `window` calls failed; after `open_for` it lets
// one call through, which closes it again or opens it for another while.
// Thread-safe; never blocks.
class CircuitBreaker {
 public:
  CircuitBreaker(CircuitBreakerOptions options, Clock& clock)
      : options_(options), clock_(clock) {}

  // True when a call may go out. Every true must be followed by one of Succeed,
  // Fail or Abandon.
  bool Admit() ABSL_LOCKS_EXCLUDED(mu_);
  void Succeed() ABSL_LOCKS_EXCLUDED(mu_);
  void Fail() ABSL_LOCKS_EXCLUDED(mu_);
  // The admitted call ended without telling anything of the server.
  void Abandon() ABSL_LOCKS_EXCLUDED(mu_);
  CircuitState state() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Record(bool failed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const CircuitBreakerOptions options_;
  Clock& clock_;
  mutable Mutex mu_;
  bool open_ ABSL_GUARDED_BY(mu_) = false;
  bool probing_ ABSL_GUARDED_BY(mu_) = false;  // One call out while half open.
  absl::Time opened_at_ ABSL_GUARDED_BY(mu_);
  std::deque<bool> failed_ ABSL_GUARDED_BY(mu_);  // Newest last.
};

}  // namespace mpo::judge
