// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "mpo/base/mutex.h"

namespace mpo {

// Fixed-capacity FIFO shared by producer and consumer threads. `Close` lets
// consumers drain what is queued and fails every later push. Thread-safe.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Blocks while full. Returns false, leaving nothing queued, once closed.
  bool Push(T item) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    while (!closed_ && items_.size() >= capacity_) changed_.Wait(mu_);
    if (closed_) return false;
    items_.push_back(std::move(item));
    changed_.NotifyAll();
    return true;
  }

  // Never blocks. Returns false when full or closed.
  bool TryPush(T item) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    changed_.NotifyAll();
    return true;
  }

  // Blocks while empty. Returns nullopt once closed and drained.
  std::optional<T> Pop() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    while (!closed_ && items_.empty()) changed_.Wait(mu_);
    if (items_.empty()) return std::nullopt;
    std::optional<T> item = std::move(items_.front());
    items_.pop_front();
    changed_.NotifyAll();
    return item;
  }

  void Close() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    closed_ = true;
    changed_.NotifyAll();
  }

  size_t size() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return items_.size();
  }

 private:
  const size_t capacity_;
  mutable Mutex mu_;
  CondVar changed_;
  std::deque<T> items_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mpo
