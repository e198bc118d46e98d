// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_process.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "mpo/base/digest.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/metrics/exposer.h"
#include "mpo/rpc/server_host.h"
#include "mpo/rpc/termination.h"
#include "services/policy_learner/learner_service.h"
#include "services/policy_learner/load_trainer.h"
#include "services/policy_learner/mesh_ledger.h"
#include "services/policy_learner/wire.h"

namespace mpo::policy_learner {
namespace {

std::string Incarnation() {
  return Sha256Hex(absl::StrCat(::getpid(), "/", absl::GetCurrentTimeNanos()))
      .substr(0, 16);
}

// Holds the outcome of training and wakes the thread that waits for a signal.
class TrainingEnd {
 public:
  void Set(const absl::Status& status) {
    if (status.ok()) return;  // Weights are served until told to stop.
    MutexLock lock(mu_);
    status_ = status;
    ::kill(::getpid(), SIGTERM);
  }
  absl::Status Get() const {
    MutexLock lock(mu_);
    return status_;
  }

 private:
  mutable Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::Status RunLearner(const LearnerProcessOptions& options) {
  const config::v1::RunConfig& config = options.config;
  const std::filesystem::path run = config.run().dir();
  MPO_ASSIGN_OR_RETURN(
      auto exposition,
      metrics::Exposition::Start(options.name, options.metrics_listen));
  MPO_ASSIGN_OR_RETURN(auto trainer, LoadTrainer(config, Clock::Real()));
  MPO_ASSIGN_OR_RETURN(auto spool,
                       RolloutSpool::Open({.directory = run / "spool"}));
  LearnerMetrics metrics(exposition->registry());
  WeightsPublisher publisher;
  TrainingEnd end;
  MeshLedger ledger(
      {.orchestrator = config.mesh().orchestrator(),
       .name = options.name,
       .incarnation = Incarnation(),
       .address = config.mesh().policy_learner(),
       .config_sha256 = options.config_sha256,
       .policy_version =
           [&] {
             const auto newest = publisher.newest();
             return newest == nullptr ? 0 : newest->version();
           },
       .heartbeat = absl::Seconds(std::max(0.01, config.mesh().heartbeat()))});
  LearnerEngine::Options engine_options;
  engine_options.checkpoints = {
      .directory = run / "checkpoints",
      .config_sha256 = options.config_sha256,
      .kept = config.learner().checkpoints_kept(),
      .keep_every = config.learner().checkpoints_keep_every()};
  engine_options.checkpoint_every =
      std::max(1, config.learner().checkpoint_every());
  engine_options.version_file = run / "spool" / "newest_version";
  if (config.learner().record_rollouts()) {
    engine_options.record = run / "rollouts";
  }
  LearnerEngine engine(engine_options, std::move(trainer), *spool,
                       SampleFromBytes, ledger, publisher, metrics,
                       Clock::Real());
  MPO_RETURN_IF_ERROR(engine.Restore());
  LearnerService service(engine, *spool, publisher, metrics);
  MPO_ASSIGN_OR_RETURN(
      auto host, rpc::ServerHost::Start({.address = options.listen,
                                         .registry = &exposition->registry()},
                                        {&service}));
  logging::Info("policy_learner ready",
                {{"port", host->port()},
                 {"metrics_port", exposition->port()},
                 {"policy_version", publisher.newest()->version()}});
  engine.Start([&](const absl::Status& status) { end.Set(status); });
  rpc::WaitForTerminationSignal();
  logging::Info("draining");
  // The step in hand is finished and checkpointed while rollouts are still
  // accepted; then those who wait for weights are let go.
  engine.Stop();
  publisher.Close();
  host->Stop();
  return end.Get();
}

}  // namespace mpo::policy_learner
