// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mpo::rollout_actor {

// Pauses between tries: doubling from `first` to `longest`.
struct RetryPolicy {
  absl::Duration first = absl::Milliseconds(100);
  absl::Duration longest = absl::Seconds(2);
};

// True for what another try can mend: the peer is away, busy, restarting or
// answered nonsense. False for what is wrong with the request itself.
bool WorthAnotherTry(const absl::Status& status);

// Waits `pause` or until `stop` is requested.
void Pause(absl::Duration pause, std::stop_token stop);

// Calls `call` until it succeeds, fails for good or `stop` is requested
// (CANCELLED, with the last error). Logs the first and every tenth failure as
// "<what> failed, trying again".
absl::Status TryUntil(const char* what, const RetryPolicy& policy,
                      std::stop_token stop,
                      const std::function<absl::Status()>& call);

}  // namespace mpo::rollout_actor
