// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/service_reactors.h"

#include "services/orchestrator/wire.h"

namespace mpo::orchestrator {

void EngineTicket::Set(uint64_t id) {
  {
    MutexLock lock(mu_);
    id_ = id;
    if (!ended_) return;
  }
  release_(id);
}

void EngineTicket::End() {
  std::optional<uint64_t> id;
  {
    MutexLock lock(mu_);
    if (ended_) return;
    ended_ = true;
    id = id_;
  }
  if (id.has_value()) release_(*id);
}

void WatchReactor::Feed::Tell(const std::optional<RunStatus>& status) {
  {
    MutexLock lock(mu_);
    if (status.has_value()) {
      next_ = status;
    } else {
      ending_ = true;
    }
  }
  Proceed();
}

void WatchReactor::Feed::Written(bool ok) {
  {
    MutexLock lock(mu_);
    writing_ = false;
    if (!ok) ending_ = true;
  }
  Proceed();
}

void WatchReactor::Feed::Cancelled() {
  {
    MutexLock lock(mu_);
    ending_ = true;
  }
  Proceed();
}

void WatchReactor::Feed::Proceed() {
  bool finish = false;
  {
    MutexLock lock(mu_);
    // Whoever sets one of these two flags is the only one to touch the reactor
    // until the operation it starts is done.
    if (writing_ || finished_) return;
    if (ending_) {
      finish = finished_ = true;
    } else if (next_.has_value()) {
      writing_ = true;
      reactor_.response_ = WatchResponseOf(*next_);
      next_.reset();
    } else {
      return;
    }
  }
  if (finish) {
    reactor_.Finish(grpc::Status::OK);
  } else {
    reactor_.StartWrite(&reactor_.response_);
  }
}

}  // namespace mpo::orchestrator
