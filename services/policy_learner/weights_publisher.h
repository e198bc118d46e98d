// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "absl/status/statusor.h"
#include "mpo/base/mutex.h"
#include "mpo/weights/published_weights.h"

namespace mpo::policy_learner {

// Hands the newest version of the weights to whoever asks, without blocking a
// thread on those who ask for one that is still to come. Thread-safe; callbacks
// run on the thread that publishes, cancels or closes, under no lock.
class WeightsPublisher {
 public:
  using Published = std::shared_ptr<const weights::PublishedWeights>;
  using Callback = std::function<void(absl::StatusOr<Published>)>;

  // Replaces what was published before and answers those who wait for it.
  void Publish(Published published) ABSL_LOCKS_EXCLUDED(mu_);

  // Calls `done` exactly once: now, when the newest version is at least
  // `min_version`, or when it becomes so; CANCELLED after Cancel of the
  // returned ticket, UNAVAILABLE after Close.
  int64_t Request(PolicyVersion min_version, Callback done)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Does nothing when `done` has been or is being called.
  void Cancel(int64_t ticket) ABSL_LOCKS_EXCLUDED(mu_);
  void Close() ABSL_LOCKS_EXCLUDED(mu_);

  // Null before the first Publish.
  Published newest() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Waiter {
    PolicyVersion min_version;
    Callback done;
  };

  mutable Mutex mu_;
  Published newest_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, Waiter> waiters_ ABSL_GUARDED_BY(mu_);
  int64_t next_ticket_ ABSL_GUARDED_BY(mu_) = 1;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mpo::policy_learner
