// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_process.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
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
#include "services/policy_learner/rank_orders.h"
#include "services/policy_learner/rank_process.h"
#include "services/policy_learner/training_end.h"
#include "services/policy_learner/wire.h"

namespace mpo::policy_learner {
namespace {

std::string Incarnation() {
  return Sha256Hex(absl::StrCat(::getpid(), "/", absl::GetCurrentTimeNanos()))
      .substr(0, 16);
}

// Null where no engine gets the weights.
absl::StatusOr<std::unique_ptr<EnginePusher>> MakePusher(
    const config::v1::RunConfig& config, const PolicyTrainer& trainer,
    LearnerMetrics& metrics) {
  MPO_ASSIGN_OR_RETURN(auto engines, EnginesFrom(config.learner()));
  if (engines.empty()) return nullptr;
  return EnginePusher::Create(std::move(engines), config.policy().model(),
                              trainer.model().base(), metrics);
}

}  // namespace

absl::StatusOr<std::shared_ptr<collective::ProcessGroup>> JoinGroup(
    const LearnerProcessOptions& options, const at::Device& device,
    std::unique_ptr<LearnerGroup>& holder) {
  const config::v1::Mesh& mesh = options.config.mesh();
  LearnerGroup::Options own = {.rank = options.rank,
                               .ranks = options.config.learner().ranks(),
                               .address = mesh.learner_group(),
                               .listen = options.group,
                               .config_sha256 = options.config_sha256,
                               .incarnation = Incarnation(),
                               .patience = absl::Seconds(mesh.rank_patience()),
                               .device = device};
  if (options.rank > 0 && !options.group.empty()) own.address = options.group;
  MPO_ASSIGN_OR_RETURN(holder, LearnerGroup::Form(own, Clock::Real()));
  return holder->group();
}

absl::Status RunLearner(const LearnerProcessOptions& options) {
  if (options.rank != 0) return RunRank(options);
  const config::v1::RunConfig& config = options.config;
  const std::filesystem::path run = config.run().dir();
  MPO_ASSIGN_OR_RETURN(
      auto exposition,
      metrics::Exposition::Start(options.name, options.metrics_listen));
  std::unique_ptr<LearnerGroup> group;
  const bool shared = config.learner().ranks() > 1;
  MPO_ASSIGN_OR_RETURN(auto trainer,
                       shared ? LoadTrainer(config, Clock::Real(), /*rank=*/0,
                                            [&](const at::Device& device) {
                                              return JoinGroup(options, device,
                                                               group);
                                            })
                              : LoadTrainer(config, Clock::Real()));
  std::optional<OrderGiver> orders;
  if (shared) {
    orders.emplace(*group->group(), *group->book());
    trainer->OnWork(
        [&](const PolicyTrainer::Work& work) { return orders->Give(work); });
  }
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
  engine_options.last_step = config.run().steps();
  engine_options.version_file = run / "spool" / "newest_version";
  MPO_ASSIGN_OR_RETURN(const auto pusher,
                       MakePusher(config, *trainer, metrics));
  engine_options.engines = pusher.get();
  if (config.mesh().shared_memory()) {
    engine_options.shared_memory = weights::MemoryFiles::New();
  }
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
  if (orders) {
    if (absl::Status ended = orders->End(); !ended.ok()) {
      logging::Warning("the other ranks are gone", {{"error", ended}});
    }
  }
  publisher.Close();
  host->Stop();
  return end.Get();
}

}  // namespace mpo::policy_learner
