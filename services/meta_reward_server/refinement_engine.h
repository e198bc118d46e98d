// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"
#include "mpo/types/refinement.h"
#include "services/meta_reward_server/meta_reward_metrics.h"
#include "services/meta_reward_server/refiner.h"

namespace mpo::meta_reward_server {

// Who waits for a refinement. Called without locks, from the engine's thread
// or from within Start; `done` is the last call, and the only one that is sure
// to come unless the listener left. Neither may block.
struct RefinementListener {
  ProgressSink progress;
  std::function<void(const absl::StatusOr<RefinementProposal>&)> done;
};

struct RefinementEngineOptions {
  size_t queue_capacity = 8;  // Refinements waiting for the one that runs.
  size_t remembered = 16;     // Proposals kept for callers that come again.
};

// Runs refinements one after the other on a thread of its own, each once for
// its id: a call with a known id joins the one that waits or runs, or gets the
// remembered proposal. Failures are not remembered. A refinement that every
// listener has left is stopped. Thread-safe.
class RefinementEngine {
 public:
  // All references must outlive the engine.
  RefinementEngine(Refiner& refiner, RefinementEngineOptions options,
                   MetaRewardMetrics& metrics, Clock& clock);
  // As Stop; waits for the thread.
  ~RefinementEngine();

  // Hands in a request; returns a ticket for Leave. Does not block.
  // INVALID_ARGUMENT: no id, no evidence, or the id belongs to another request.
  // RESOURCE_EXHAUSTED: the queue is full. UNAVAILABLE: stopped.
  absl::StatusOr<int64_t> Start(RefinementRequest request,
                                RefinementListener listener);

  // The listener is not called any more, but for a call that has begun.
  void Leave(int64_t ticket);

  // Ends what runs and waits with UNAVAILABLE and refuses what comes.
  void Stop();

 private:
  struct Job;

  void Work(std::stop_token stop);
  std::shared_ptr<Job> NextJob(std::stop_token stop);
  void Publish(const std::shared_ptr<Job>& job,
               const RefinementProgress& progress);
  void Finish(const std::shared_ptr<Job>& job,
              absl::StatusOr<RefinementProposal> result);
  void Forget(const std::shared_ptr<Job>& job)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Refiner& refiner_;
  const RefinementEngineOptions options_;
  MetaRewardMetrics& metrics_;
  Clock& clock_;

  Mutex mu_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  int64_t last_ticket_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::shared_ptr<Job>> jobs_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, std::shared_ptr<Job>> by_ticket_ ABSL_GUARDED_BY(mu_);
  std::deque<std::shared_ptr<Job>> queue_ ABSL_GUARDED_BY(mu_);
  std::deque<std::shared_ptr<Job>> finished_ ABSL_GUARDED_BY(mu_);

  std::jthread worker_;  // Last: ends before what it uses.
};

}  // namespace mpo::meta_reward_server
