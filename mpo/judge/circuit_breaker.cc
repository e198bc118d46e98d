// SPDX-License-Identifier: Apache-2.0
#include "mpo/judge/circuit_breaker.h"

#include <algorithm>

namespace mpo::judge {

const char* Name(CircuitState state) {
  switch (state) {
    case CircuitState::kClosed:
      return "closed";
    case CircuitState::kOpen:
      return "open";
    case CircuitState::kHalfOpen:
      return "half_open";
  }
  return "unknown";
}

bool CircuitBreaker::Admit() {
  MutexLock lock(mu_);
  if (!open_) return true;
  if (probing_ || clock_.Steady() - opened_at_ < options_.open_for) {
    return false;
  }
  probing_ = true;
  return true;
}

void CircuitBreaker::Succeed() {
  MutexLock lock(mu_);
  if (open_) {
    // A call admitted before the circuit opened says nothing of now.
    if (!probing_) return;
    open_ = probing_ = false;
    failed_.clear();
  }
  Record(false);
}

void CircuitBreaker::Fail() {
  MutexLock lock(mu_);
  if (open_) {
    if (probing_) Open();
    return;
  }
  Record(true);
}

void CircuitBreaker::Abandon() {
  MutexLock lock(mu_);
  probing_ = false;
}

CircuitState CircuitBreaker::state() const {
  MutexLock lock(mu_);
  if (!open_) return CircuitState::kClosed;
  const bool waited = clock_.Steady() - opened_at_ >= options_.open_for;
  return waited ? CircuitState::kHalfOpen : CircuitState::kOpen;
}

void CircuitBreaker::Open() {
  open_ = true;
  probing_ = false;
  opened_at_ = clock_.Steady();
  failed_.clear();
}

void CircuitBreaker::Record(bool failed) {
  failed_.push_back(failed);
  if (static_cast<int>(failed_.size()) > options_.window) failed_.pop_front();
  if (static_cast<int>(failed_.size()) < options_.window) return;
  const auto failures = std::count(failed_.begin(), failed_.end(), true);
  if (static_cast<double>(failures) >=
      options_.failure_share * options_.window) {
    Open();
  }
}

}  // namespace mpo::judge
