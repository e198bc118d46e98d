// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "mpo/base/mutex.h"
#include "mpo/v1/orchestrator_service.pb.h"
#include "services/orchestrator/engine_types.h"

namespace mpo::orchestrator {

// Joins an RPC that may end at any moment with the id of the engine's wait or
// subscription, which becomes known on another thread: whichever comes second
// runs `release(id)`, once. Thread-safe.
class EngineTicket {
 public:
  explicit EngineTicket(std::function<void(uint64_t)> release)
      : release_(std::move(release)) {}
  void Set(uint64_t id);
  void End();

 private:
  const std::function<void(uint64_t)> release_;
  Mutex mu_;
  std::optional<uint64_t> id_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

// A unary call that waits for the run; deletes itself. The engine's callback
// calls Finish exactly once, also after a cancellation.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit WaitReactor(std::shared_ptr<EngineTicket> ticket)
      : ticket_(std::move(ticket)) {}
  void OnCancel() override { ticket_->End(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<EngineTicket> ticket_;
};

// The stream of WatchRun; deletes itself. A slow reader gets the newest state
// and misses the ones between. `Tell` may be called from any thread, also
// after the call ended.
class WatchReactor final
    : public grpc::ServerWriteReactor<v1::WatchRunResponse> {
 public:
  class Feed {
   public:
    explicit Feed(WatchReactor& reactor) : reactor_(reactor) {}
    // nullopt ends the stream with OK.
    void Tell(const std::optional<RunStatus>& status);

   private:
    friend class WatchReactor;
    void Proceed();
    void Cancelled();
    void Written(bool ok);

    // Touched only between construction and the one Finish.
    WatchReactor& reactor_;
    Mutex mu_;
    std::optional<RunStatus> next_ ABSL_GUARDED_BY(mu_);
    bool writing_ ABSL_GUARDED_BY(mu_) = false;
    bool ending_ ABSL_GUARDED_BY(mu_) = false;
    bool finished_ ABSL_GUARDED_BY(mu_) = false;
  };

  explicit WatchReactor(std::shared_ptr<EngineTicket> ticket)
      : ticket_(std::move(ticket)), feed_(std::make_shared<Feed>(*this)) {}
  const std::shared_ptr<Feed>& feed() const { return feed_; }

  void OnWriteDone(bool ok) override { feed_->Written(ok); }
  void OnCancel() override { feed_->Cancelled(); }
  void OnDone() override {
    ticket_->End();
    delete this;
  }

 private:
  const std::shared_ptr<EngineTicket> ticket_;
  const std::shared_ptr<Feed> feed_;
  v1::WatchRunResponse response_;
};

}  // namespace mpo::orchestrator
