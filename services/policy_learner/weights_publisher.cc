// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/weights_publisher.h"

#include <utility>
#include <vector>

namespace mpo::policy_learner {

void WeightsPublisher::Publish(Published published) {
  std::vector<Callback> ready;
  {
    MutexLock lock(mu_);
    newest_ = published;
    for (auto it = waiters_.begin(); it != waiters_.end();) {
      if (it->second.min_version > published->version()) {
        ++it;
        continue;
      }
      ready.push_back(std::move(it->second.done));
      it = waiters_.erase(it);
    }
  }
  for (const Callback& done : ready) done(published);
}

int64_t WeightsPublisher::Request(PolicyVersion min_version, Callback done) {
  absl::StatusOr<Published> answer = absl::UnavailableError("shutting down");
  int64_t ticket = 0;
  {
    MutexLock lock(mu_);
    ticket = next_ticket_++;
    if (!closed_) {
      if (newest_ == nullptr || newest_->version() < min_version) {
        waiters_[ticket] = {min_version, std::move(done)};
        return ticket;
      }
      answer = newest_;
    }
  }
  done(std::move(answer));
  return ticket;
}

void WeightsPublisher::Cancel(int64_t ticket) {
  Callback done;
  {
    MutexLock lock(mu_);
    const auto it = waiters_.find(ticket);
    if (it == waiters_.end()) return;
    done = std::move(it->second.done);
    waiters_.erase(it);
  }
  done(absl::CancelledError("cancelled while waiting for a version"));
}

void WeightsPublisher::Close() {
  std::map<int64_t, Waiter> waiters;
  {
    MutexLock lock(mu_);
    closed_ = true;
    waiters.swap(waiters_);
  }
  for (auto& [ticket, waiter] : waiters) {
    waiter.done(absl::UnavailableError("shutting down"));
  }
}

WeightsPublisher::Published WeightsPublisher::newest() const {
  MutexLock lock(mu_);
  return newest_;
}

}  // namespace mpo::policy_learner
