// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace mpo {

// std::mutex with clang's lock annotations. Debian's Abseil is not built for
// ThreadSanitizer, which then reports false races behind absl::Mutex; see
// docs/adr/0004-own-annotated-mutex.md. Thread-safe by nature.
class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  // Names std::condition_variable_any needs.
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// Holds a Mutex for a scope.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Condition variable to be used with Mutex. Every wait ends by a
// notification, a stop request or a timeout; callers re-check their condition.
class CondVar {
 public:
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

  void Wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    cv_.wait(mutex);
  }
  // Returns false when the timeout passed.
  bool WaitFor(Mutex& mutex, absl::Duration timeout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return cv_.wait_for(mutex, absl::ToChronoNanoseconds(timeout)) ==
           std::cv_status::no_timeout;
  }
  // Waits until `ready()`, the stop request or the timeout; returns ready().
  template <typename Ready>
  bool WaitFor(Mutex& mutex, std::stop_token stop, absl::Duration timeout,
               Ready ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return cv_.wait_for(mutex, stop, absl::ToChronoNanoseconds(timeout), ready);
  }

 private:
  std::condition_variable_any cv_;
};

}  // namespace mpo
