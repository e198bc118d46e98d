// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_reward_server.h"

#include <utility>

#include "mpo/base/status_macros.h"
#include "mpo/http/secret.h"
#include "mpo/judge/measures.h"
#include "services/meta_reward_server/meta_judge.h"
#include "services/meta_reward_server/reviewer.h"

namespace mpo::meta_reward_server {
namespace {

constexpr char kEmbedded[] = "embedded";

absl::StatusOr<std::unique_ptr<judge::ChatModel>> MakeModel(
    const config::v1::Meta& meta, MetaRewardMetrics& metrics, Clock& clock) {
  judge::CurlChatModelOptions options;
  options.base_url = meta.judge();
  options.model = meta.http().model();
  if (!meta.http().api_key_file().empty()) {
    MPO_ASSIGN_OR_RETURN(options.api_key,
                         http::ReadSecretFile(meta.http().api_key_file()));
  }
  options.timeout = absl::Seconds(meta.http().timeout());
  options.attempts = meta.http().attempts();
  options.backoff = absl::Seconds(meta.http().backoff());
  options.on_attempt = [&metrics](const judge::ChatAttempt& attempt) {
    metrics.Asked(attempt);
  };
  return judge::CurlChatModel::Create(std::move(options), clock);
}

MetaJudgeOptions MetaJudgeOptionsFrom(const config::v1::RunConfig& config) {
  const config::v1::HttpJudge& http = config.meta().http();
  MetaJudgeOptions options;
  options.concurrency = http.concurrency();
  options.temperature = http.temperature();
  options.max_tokens = http.max_tokens();
  options.limits = LimitsFrom(config);
  return options;
}

}  // namespace

PromptLimits LimitsFrom(const config::v1::RunConfig& config) {
  PromptLimits limits;
  limits.max_criteria = config.meta().max_criteria();
  limits.require_checks = config.reward().judge() == kEmbedded;
  for (const judge::MeasureSpec& spec : judge::MeasureCatalogue()) {
    limits.catalogue.push_back({spec.name, spec.description});
  }
  return limits;
}

absl::StatusOr<std::unique_ptr<MetaRewardServer>> MetaRewardServer::Start(
    const config::v1::RunConfig& config, const std::string& address,
    prometheus::Registry& registry, Clock& clock) {
  std::unique_ptr<MetaRewardServer> server(new MetaRewardServer(registry));
  if (config.meta().judge() == kEmbedded) {
    ReviewerOptions options;
    options.max_criteria = config.meta().max_criteria();
    server->refiner_ = std::make_unique<EmbeddedReviewer>(options);
  } else {
    MPO_ASSIGN_OR_RETURN(server->model_,
                         MakeModel(config.meta(), server->metrics_, clock));
    server->refiner_ = std::make_unique<MetaJudge>(
        *server->model_, MetaJudgeOptionsFrom(config));
  }
  server->engine_ = std::make_unique<RefinementEngine>(
      *server->refiner_, RefinementEngineOptions{}, server->metrics_, clock);
  server->service_ =
      std::make_unique<MetaRewardService>(*server->engine_, LimitsFrom(config));
  rpc::ServerOptions options;
  options.address = address;
  options.registry = &registry;
  MPO_ASSIGN_OR_RETURN(
      server->host_, rpc::ServerHost::Start(options, {server->service_.get()}));
  return server;
}

void MetaRewardServer::Stop() {
  host_->Stop();
  engine_->Stop();
}

}  // namespace mpo::meta_reward_server
