// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/collective/process_group.h"
#include "mpo/collective/rendezvous.h"
#include "services/policy_learner/policy_trainer.h"

namespace mpo::policy_learner {

// Rank 0's side of what keeps the ranks in step: each piece of its trainer's
// work is written into the group's store with the samples it needs, and done
// only when all ranks have read it. Not thread-safe.
class OrderGiver {
 public:
  // Both must outlive it.
  OrderGiver(collective::ProcessGroup& group, collective::Rendezvous& book)
      : group_(group), book_(book) {}

  // For PolicyTrainer::OnWork. Errors of ProcessGroup::Barrier;
  // RESOURCE_EXHAUSTED: a sample or a step is too large for the store.
  absl::Status Give(const PolicyTrainer::Work& work);
  // No order follows. Does not wait.
  absl::Status End();

 private:
  absl::Status Put(const std::string& part, std::string bytes);

  collective::ProcessGroup& group_;
  collective::Rendezvous& book_;
  int64_t number_ = 0;
};

// The other ranks' side: does what rank 0 orders until it ends the orders (OK),
// the group ends (its errors), the trainer fails or `stop` (CANCELLED).
absl::Status FollowOrders(collective::ProcessGroup& group,
                          PolicyTrainer& trainer, std::stop_token stop);

}  // namespace mpo::policy_learner
