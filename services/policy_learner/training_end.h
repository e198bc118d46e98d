// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <csignal>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mpo/base/mutex.h"

namespace mpo::policy_learner {

// Holds the outcome of training and wakes the thread that waits for a signal
// when it failed. Thread-safe.
class TrainingEnd {
 public:
  void Set(const absl::Status& status) {
    MutexLock lock(mu_);
    status_ = status;
    changed_.NotifyAll();
    // Else the process goes on until it is told to stop.
    if (!status.ok()) ::kill(::getpid(), SIGTERM);
  }
  // The outcome; OK while there is none.
  absl::Status Get() const {
    MutexLock lock(mu_);
    return status_.value_or(absl::OkStatus());
  }
  // Waits for an outcome.
  void WaitFor(absl::Duration timeout) {
    MutexLock lock(mu_);
    changed_.WaitFor(mu_, {}, timeout, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return status_.has_value();
    });
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mpo::policy_learner
