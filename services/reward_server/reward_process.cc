// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/reward_process.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/http/secret.h"
#include "mpo/judge/embedded_judge.h"
#include "mpo/judge/model_judge.h"
#include "mpo/logging/log.h"
#include "mpo/metrics/exposer.h"
#include "mpo/rpc/channel.h"
#include "mpo/rpc/server_host.h"
#include "mpo/rpc/termination.h"
#include "mpo/rubric/rubric_yaml.h"
#include "mpo/v1/orchestrator_service.grpc.pb.h"
#include "services/reward_server/reward_engine.h"
#include "services/reward_server/reward_metrics.h"
#include "services/reward_server/reward_service.h"
#include "services/reward_server/wire.h"

namespace mpo::reward_server {
namespace {

// Asks the orchestrator.
class MeshRubrics final : public RubricSource {
 public:
  explicit MeshRubrics(const std::string& address)
      : stub_(v1::OrchestratorService::NewStub(rpc::MakeChannel(address))) {}

  absl::StatusOr<Rubric> Fetch(const std::string& sha256,
                               std::stop_token stop) override {
    v1::GetRubricRequest request;
    request.set_rubric_sha256(sha256);
    v1::GetRubricResponse response;
    MPO_RETURN_IF_ERROR(rpc::CallWithRetry(
        {.timeout = absl::Seconds(20), .stop = stop},
        [&](grpc::ClientContext& context) {
          return stub_->GetRubric(&context, request, &response);
        }));
    return FromProto(response.rubric());
  }

 private:
  const std::unique_ptr<v1::OrchestratorService::Stub> stub_;
};

// The judge the configuration names, with the model it asks.
struct JudgeSetup {
  std::unique_ptr<judge::ChatModel> model;  // Null for the embedded judge.
  std::unique_ptr<judge::Judge> judge;
};

absl::StatusOr<JudgeSetup> MakeJudge(const config::v1::Reward& reward,
                                     RewardMetrics& metrics) {
  JudgeSetup setup;
  if (reward.judge() == "embedded") {
    setup.judge = std::make_unique<judge::EmbeddedJudge>();
    return setup;
  }
  const config::v1::HttpJudge& http = reward.http();
  judge::CurlChatModelOptions options;
  options.base_url = reward.judge();
  options.model = http.model();
  if (!http.api_key_file().empty()) {
    MPO_ASSIGN_OR_RETURN(options.api_key,
                         http::ReadSecretFile(http.api_key_file()));
  }
  options.timeout = absl::Seconds(http.timeout());
  options.attempts = http.attempts();
  options.backoff = absl::Seconds(http.backoff());
  options.on_attempt = [&metrics](const judge::ChatAttempt& attempt) {
    metrics.Asked(attempt);
  };
  MPO_ASSIGN_OR_RETURN(setup.model,
                       judge::CurlChatModel::Create(std::move(options)));
  setup.judge = std::make_unique<judge::ModelJudge>(
      *setup.model, judge::ModelJudgeOptions{.name = http.model(),
                                             .concurrency = http.concurrency(),
                                             .temperature = http.temperature(),
                                             .max_tokens = http.max_tokens()});
  return setup;
}

absl::Status InstallInitial(const std::string& path, RewardEngine& engine) {
  MPO_ASSIGN_OR_RETURN(const std::string yaml, ReadFile(path, 1 << 20));
  absl::Status status;
  const absl::StatusOr<Rubric> rubric = rubric::ParseYaml(yaml);
  status = rubric.status();
  if (rubric.ok()) status = engine.Install(*rubric).status();
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", std::string(status.message())));
}

}  // namespace

absl::Status RunRewardServer(const RewardProcessOptions& options) {
  const config::v1::RunConfig& config = options.config;
  MPO_ASSIGN_OR_RETURN(
      const auto exposition,
      metrics::Exposition::Start(options.name, options.metrics_listen));
  RewardMetrics metrics(exposition->registry());
  MPO_ASSIGN_OR_RETURN(const JudgeSetup setup,
                       MakeJudge(config.reward(), metrics));
  MeshRubrics rubrics(config.mesh().orchestrator());
  const bool embedded = setup.model == nullptr;
  RewardEngine engine(*setup.judge, rubrics, metrics, Clock::Real(),
                      {.needs_checks = embedded});
  MPO_RETURN_IF_ERROR(InstallInitial(config.reward().rubric(), engine));
  RewardService service(engine, [&setup, embedded] {
    return JudgeStatus{
        .name = setup.judge->name(),
        .kind = embedded ? "embedded" : "http",
        .model = embedded ? judge::ChatModelStatus{} : setup.model->status()};
  });
  rpc::ServerOptions server;
  server.address = options.listen;
  server.registry = &exposition->registry();
  MPO_ASSIGN_OR_RETURN(const auto host,
                       rpc::ServerHost::Start(server, {&service}));
  logging::Info("ready",
                {{"port", host->port()}, {"judge", setup.judge->name()}});
  rpc::WaitForTerminationSignal();
  host->Stop();
  engine.Stop();
  return absl::OkStatus();
}

}  // namespace mpo::reward_server
