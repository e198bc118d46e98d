// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/orchestrator_process.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/clock.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/evaluation/gold.h"
#include "mpo/judge/rubric_problems.h"
#include "mpo/logging/log.h"
#include "mpo/metrics/exposer.h"
#include "mpo/rpc/channel.h"
#include "mpo/rpc/server_host.h"
#include "mpo/rpc/termination.h"
#include "mpo/rubric/rubric_yaml.h"
#include "services/orchestrator/meta_reviewer.h"
#include "services/orchestrator/orchestrator_engine.h"
#include "services/orchestrator/orchestrator_service.h"
#include "services/orchestrator/run_options.h"

namespace mpo::orchestrator {
namespace {

// A meta-judge model may need minutes for each of many analyses.
constexpr absl::Duration kLongestReview = absl::Minutes(30);
constexpr absl::Duration kFailureCheck = absl::Milliseconds(500);

RubricRules MeshRubricRules(bool embedded_judge) {
  return {
      .parse = [](const std::string& yaml) { return rubric::ParseYaml(yaml); },
      .yaml = [](const Rubric& one) { return rubric::ToYaml(one); },
      .sha256 = [](const Rubric& one) { return rubric::Sha256Of(one); },
      .validate =
          [embedded_judge](const Rubric& one) {
            return judge::RubricProblems(one, embedded_judge);
          }};
}

absl::StatusOr<RubricRecord> InitialRubric(const std::string& path,
                                           const RubricRules& rules) {
  const absl::StatusOr<std::string> text = ReadFile(path, 1 << 20);
  if (!text.ok()) {
    return absl::Status(
        text.status().code(),
        absl::StrCat("reward.rubric: ", text.status().message()));
  }
  absl::StatusOr<Rubric> rubric = rubric::ParseYaml(*text);
  if (!rubric.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", rubric.status().message()));
  }
  const std::vector<std::string> problems = rules.validate(*rubric);
  if (!problems.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", absl::StrJoin(problems, "\n")));
  }
  RubricRecord record;
  record.sha256 = rubric::Sha256Of(*rubric);
  record.yaml = rubric::ToYaml(*rubric);
  return record;
}

// Two processes over one ledger would both grant leases. The kernel drops the
// lock when the process ends, however it ends.
absl::StatusOr<int> LockDirectory(const std::filesystem::path& directory) {
  const std::string path = (directory / "orchestrator.lock").string();
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot create ", path, ": ", std::strerror(errno)));
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return absl::FailedPreconditionError(absl::StrCat(
        path, " is held: another orchestrator runs in ", directory.string()));
  }
  return fd;
}

std::optional<double> GoldOf(const Prompt& prompt, const std::string& response,
                             const BaseStatistics& base) {
  const auto gold = evaluation::Gold(prompt, response, base);
  if (!gold.ok()) {
    logging::Warning("gold not measured",
                     {{"prompt", prompt.id}, {"status", gold.status()}});
    return std::nullopt;
  }
  return gold->value;
}

}  // namespace

absl::Status RunOrchestrator(const OrchestratorProcessOptions& options) {
  MPO_ASSIGN_OR_RETURN(
      const EngineOptions engine_options,
      EngineOptionsFrom(options.config, options.config_sha256));
  const RubricRules rules =
      MeshRubricRules(options.config.reward().judge() == "embedded");
  MPO_ASSIGN_OR_RETURN(const RubricRecord initial,
                       InitialRubric(options.config.reward().rubric(), rules));
  const std::filesystem::path& directory = engine_options.directory;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat(
        "cannot create run.dir ", directory.string(), ": ", error.message()));
  }
  MPO_ASSIGN_OR_RETURN(const int lock, LockDirectory(directory));
  const auto unlock = absl::MakeCleanup([lock] { close(lock); });
  Clock& clock = Clock::Real();
  MPO_ASSIGN_OR_RETURN(
      const auto ledger,
      Ledger::Open(directory / "ledger.sqlite", RunRecordFrom(engine_options),
                   initial, clock.Wall()));
  MPO_ASSIGN_OR_RETURN(
      const auto exposition,
      metrics::Exposition::Start("orchestrator", options.metrics_listen));
  OrchestratorMetrics metrics(exposition->registry());
  MetaReviewer reviewer(
      rpc::MakeChannel(options.config.mesh().meta_reward_server()),
      kLongestReview);
  MPO_ASSIGN_OR_RETURN(
      const auto engine,
      OrchestratorEngine::Create(
          engine_options, {.ledger = *ledger,
                           .clock = clock,
                           .metrics = metrics,
                           .refine =
                               [&reviewer](const RefinementRequest& request,
                                           std::stop_token stop) {
                                 return reviewer.Ask(request, std::move(stop));
                               },
                           .gold = GoldOf,
                           .rubrics = rules}));
  OrchestratorService service(*engine);
  MPO_ASSIGN_OR_RETURN(
      const auto host,
      rpc::ServerHost::Start(
          {.address = options.listen, .registry = &exposition->registry()},
          {&service}));
  engine->Start();
  logging::Info("orchestrator ready",
                {{"port", host->port()},
                 {"metrics_port", exposition->port()},
                 {"run", engine_options.plan.run},
                 {"config_sha256", options.config_sha256}});
  while (rpc::WaitForTerminationSignal(kFailureCheck) == 0 &&
         engine->Failure().ok()) {
  }
  logging::Info("draining");
  engine->Shutdown();
  host->Stop();
  return engine->Failure();
}

}  // namespace mpo::orchestrator
