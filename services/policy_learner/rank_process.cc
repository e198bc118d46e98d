// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/rank_process.h"

#include <memory>
#include <thread>
#include <utility>

#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/metrics/exposer.h"
#include "mpo/rpc/server_host.h"
#include "mpo/rpc/termination.h"
#include "services/policy_learner/learner_group.h"
#include "services/policy_learner/load_trainer.h"
#include "services/policy_learner/rank_orders.h"
#include "services/policy_learner/training_end.h"

namespace mpo::policy_learner {

absl::Status RunRank(const LearnerProcessOptions& options,
                     absl::Duration patience) {
  MPO_ASSIGN_OR_RETURN(
      auto exposition,
      metrics::Exposition::Start(options.name, options.metrics_listen));
  std::unique_ptr<LearnerGroup> group;
  MPO_ASSIGN_OR_RETURN(auto trainer,
                       LoadTrainer(options.config, Clock::Real(), options.rank,
                                   [&](const at::Device& device) {
                                     return JoinGroup(options, device, group);
                                   }));
  // For health checks only: orders come through the rendezvous.
  MPO_ASSIGN_OR_RETURN(
      auto host, rpc::ServerHost::Start({.address = options.listen,
                                         .registry = &exposition->registry()},
                                        {}));
  logging::Info("rank ready", {{"rank", options.rank},
                               {"port", host->port()},
                               {"metrics_port", exposition->port()}});
  TrainingEnd end;
  std::jthread follower([&](std::stop_token stop) {
    const absl::Status status = FollowOrders(*group->group(), *trainer, stop);
    if (!status.ok()) logging::Error("rank stopped", {{"error", status}});
    end.Set(status);
  });
  rpc::WaitForTerminationSignal();
  const absl::Status status = end.Get();
  if (status.ok()) {
    logging::Info("draining");
    end.WaitFor(patience);
  }
  follower.request_stop();
  follower.join();
  host->Stop();
  return status;
}

}  // namespace mpo::policy_learner
