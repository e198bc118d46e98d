// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/actor_process.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/metrics/exposer.h"
#include "mpo/model/placement.h"
#include "mpo/rpc/server_host.h"
#include "mpo/rpc/termination.h"
#include "mpo/tensor/threads.h"
#include "services/rollout_actor/mesh_peers.h"
#include "services/rollout_actor/rollout_actor_service.h"

namespace mpo::rollout_actor {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(20);
constexpr absl::Duration kHardExit = absl::Seconds(28);
constexpr absl::Duration kFailureCheck = absl::Milliseconds(500);
constexpr int kLeastRows = 64;
constexpr int kMostRows = 256;

// New at every start, so that the orchestrator can tell one life from the next.
std::string Incarnation() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

// How long a judge over HTTP may need for a unit when every request is answered
// at the last moment and every try is used, with the other actors' units before
// it. The embedded grader answers in milliseconds; the floor serves both.
absl::Duration ScoreDeadline(const config::v1::RunConfig& config) {
  const config::v1::HttpJudge& http = config.reward().http();
  const double requests = 2.0 * config.generation().unit_size() *
                          std::max(1, config.mesh().actors());
  const double rounds =
      std::ceil(requests / std::max(1, http.concurrency())) * http.attempts();
  return std::clamp(absl::Seconds(rounds * (http.timeout() + http.backoff())),
                    absl::Minutes(10), absl::Hours(48));
}

MeshPeersOptions PeersFrom(const ActorProcessOptions& options) {
  const config::v1::Mesh& mesh = options.config.mesh();
  MeshPeersOptions peers;
  peers.orchestrator = mesh.orchestrator();
  peers.policy_learner = mesh.policy_learner();
  peers.reward_server = mesh.reward_server();
  peers.name = options.name;
  peers.incarnation = Incarnation();
  peers.address = options.listen;
  peers.config_sha256 = options.config_sha256;
  peers.shared_memory = mesh.shared_memory();
  if (options.config.reward().judge() != "embedded")
    peers.score = ScoreDeadline(options.config);
  return peers;
}

absl::StatusOr<std::unique_ptr<PolicyReplica>> LoadPolicy(
    const config::v1::RunConfig& config, const text::Tokenizer& tokenizer) {
  const int threads = config.generation().threads();
  tensor::SetThreads(threads > 0
                         ? threads
                         : static_cast<int>(std::max(
                               1U, std::thread::hardware_concurrency())));
  MPO_ASSIGN_OR_RETURN(const model::LoadOptions placement,
                       model::ParsePlacement(config.generation().dtype(),
                                             config.generation().device()));
  MPO_ASSIGN_OR_RETURN(auto model, model::LanguageModel::Load(
                                       config.policy().model(), placement));
  if (tokenizer.vocab_size() > model->config().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        config.policy().model(), ": the tokenizer has ", tokenizer.vocab_size(),
        " tokens, the model only ", model->config().vocab_size));
  }
  generation::EngineOptions engine;
  engine.max_rows =
      std::clamp(config.generation().unit_size(), kLeastRows, kMostRows);
  engine.stop_tokens = tokenizer.eos_ids();
  return PolicyReplica::Create(std::move(model), engine);
}

}  // namespace

absl::Status RunActor(const ActorProcessOptions& options) {
  const config::v1::RunConfig& config = options.config;
  MPO_ASSIGN_OR_RETURN(
      const auto exposition,
      metrics::Exposition::Start("rollout_actor", options.metrics_listen));
  MPO_ASSIGN_OR_RETURN(const text::Tokenizer tokenizer,
                       text::Tokenizer::Load(config.policy().model()));
  const absl::StatusOr<text::ChatTemplate> chat =
      text::ChatTemplate::Load(config.policy().model());
  if (!chat.ok()) {
    logging::Warning("no chat template; only raw prompts can be generated for",
                     {{"status", chat.status()}});
  }
  MPO_ASSIGN_OR_RETURN(const auto policy, LoadPolicy(config, tokenizer));
  MeshPeers peers(PeersFrom(options));
  RolloutActorMetrics metrics(exposition->registry());
  const UnitTools tools = {*policy, tokenizer, chat,
                           peers,   metrics,   Clock::Real(),
                           config.learner().trunks_from_actors()};
  RolloutActorOptions engine_options;
  engine_options.heartbeat =
      absl::Seconds(std::max(0.01, config.mesh().heartbeat()));
  UnitRunner runner(tools, engine_options.retry);
  RolloutActorEngine engine(tools, runner, engine_options);
  RolloutActorService service(engine);
  MPO_ASSIGN_OR_RETURN(
      const auto host,
      rpc::ServerHost::Start(
          {.address = options.listen, .registry = &exposition->registry()},
          {&service}));
  logging::Info("rollout_actor ready", {{"port", host->port()},
                                        {"metrics_port", exposition->port()},
                                        {"name", options.name},
                                        {"model", config.policy().model()}});
  while (rpc::WaitForTerminationSignal(kFailureCheck) == 0 &&
         engine.failure().ok()) {
  }
  rpc::ExitAfter(kHardExit, /*exit_code=*/1);
  logging::Info("draining", {{"unit", engine.Status().unit}});
  const absl::Status drained = engine.Finish(kDrain);
  if (!drained.ok()) logging::Warning("not drained", {{"status", drained}});
  host->Stop();
  return engine.failure();
}

}  // namespace mpo::rollout_actor
