// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/commands.h"
#include "cli/doctor_checks.h"
#include "cli/exit_code.h"
#include "cli/mesh_plan.h"
#include "cli/orchestrator_link.h"
#include "cli/preconditions.h"
#include "cli/process_table.h"
#include "cli/report_page.h"
#include "cli/run_directory.h"
#include "cli/run_snapshot.h"
#include "cli/supervisor.h"
#include "cli/terminal_screen.h"
#include "cli/train_config.h"
#include "cli/train_session.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/rpc/termination.h"
#include "services/orchestrator/ledger.h"

namespace mpo::cli {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string directory;
  std::string seed;
  bool no_report = false;
};

// The run behind a live orchestrator.
class MeshRun final : public RunSource {
 public:
  MeshRun(const std::string& address, std::filesystem::path directory)
      : address_(address),
        directory_(std::move(directory)),
        watcher_(address) {}

  std::optional<RunState> State() override { return watcher_.State(); }

  absl::StatusOr<std::vector<orchestrator::StepRecord>> CommittedAfter(
      int64_t step) override {
    MPO_ASSIGN_OR_RETURN(const auto ledger, orchestrator::Ledger::OpenReadOnly(
                                                directory_ / "ledger.sqlite"));
    MPO_ASSIGN_OR_RETURN(auto steps, ledger->Steps(step));
    std::erase_if(steps, [](const orchestrator::StepRecord& one) {
      return one.state != orchestrator::StepState::kCommitted;
    });
    return steps;
  }

  absl::Status Resume() override { return ResumeRun(address_); }

 private:
  const std::string address_;
  const std::filesystem::path directory_;
  RunWatcher watcher_;
};

// Keeps supervision.json and processes.json true while the session runs.
class Bookkeeping {
 public:
  Bookkeeping(std::filesystem::path directory, Supervisor& supervisor,
              std::map<std::string, ProcessAddresses> addresses,
              SupervisionRecord before)
      : directory_(std::move(directory)),
        supervisor_(supervisor),
        addresses_(std::move(addresses)),
        before_(std::move(before)),
        began_(Clock::Real().Steady()) {}

  absl::Status Update(bool now) {
    const std::map<std::string, int> running = supervisor_.Running();
    if (now || running != written_) {
      ProcessTable table;
      for (const auto& [name, address] : addresses_) {
        const auto found = running.find(name);
        table[name] = {.pid = found == running.end() ? 0 : found->second,
                       .addresses = address};
      }
      MPO_RETURN_IF_ERROR(WriteProcesses(directory_, table));
      written_ = running;
      now = true;
    }
    const absl::Time time = Clock::Real().Steady();
    if (!now && time - saved_ < absl::Seconds(5)) return absl::OkStatus();
    saved_ = time;
    SupervisionRecord record = before_;
    record.seconds += absl::ToDoubleSeconds(time - began_);
    for (const auto& [name, count] : supervisor_.restarts()) {
      record.restarts[name] += count;
    }
    return WriteSupervision(directory_, record);
  }

 private:
  const std::filesystem::path directory_;
  Supervisor& supervisor_;
  const std::map<std::string, ProcessAddresses> addresses_;
  const SupervisionRecord before_;
  const absl::Time began_;
  absl::Time saved_ = absl::InfinitePast();
  std::map<std::string, int> written_;
};

std::filesystem::path BinaryFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

// Everything written once the processes are gone.
absl::Status Finish(const std::filesystem::path& directory, bool report,
                    Screen& screen) {
  MPO_ASSIGN_OR_RETURN(const ReportInput input, PrepareReport(directory));
  MPO_RETURN_IF_ERROR(WriteFileAtomically(directory / "summary.json",
                                          ToJson(input.summary) + "\n"));
  screen.Line(ToText(input.summary));
  if (!report) return absl::OkStatus();
  MPO_RETURN_IF_ERROR(
      WriteFileAtomically(directory / "report.html", ReportPage(input)));
  screen.Line("report: " + (directory / "report.html").string());
  return absl::OkStatus();
}

absl::StatusOr<TrainConfig> Configure(const TrainOptions& options) {
  std::vector<std::string> overrides = options.overrides;
  if (!options.directory.empty()) {
    overrides.push_back("run.dir=" + options.directory);
  }
  if (!options.seed.empty()) overrides.push_back("run.seed=" + options.seed);
  MPO_ASSIGN_OR_RETURN(TrainConfig train,
                       LoadTrainConfig(options.config, overrides));
  std::vector<std::string> problems = FindProblems(train.config);
  const auto ask = [&problems](const char* key, const std::string& judge) {
    if (judge == "embedded") return;
    const Finding finding = CheckJudge(judge);
    if (finding.level != Finding::Level::kFailed) return;
    problems.push_back(absl::StrCat(key, ": ", finding.detail));
  };
  ask("reward.judge", train.config.reward().judge());
  if (train.config.meta().every() > 0) {
    ask("meta.judge", train.config.meta().judge());
  }
  if (problems.empty()) return train;
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
}

std::string CommandOf(const TrainOptions& options) {
  std::string command = "mpo train " + options.config;
  for (const std::string& one : options.overrides) command += " --set " + one;
  if (!options.directory.empty()) command += " --dir " + options.directory;
  if (!options.seed.empty()) command += " --seed " + options.seed;
  return command;
}

// Runs the mesh until the session ends. The supervisor's processes are
// children of this thread.
absl::StatusOr<TrainSession::Outcome> RunMesh(
    const std::vector<ProcessSpec>& specs,
    const std::map<std::string, ProcessAddresses>& addresses,
    const std::filesystem::path& directory, const std::string& command,
    Screen& screen) {
  RealProcesses processes;
  Supervisor supervisor(processes, Clock::Real(), {});
  for (const ProcessSpec& spec : specs) {
    MPO_RETURN_IF_ERROR(supervisor.Start(spec));
  }
  MPO_ASSIGN_OR_RETURN(const SupervisionRecord before,
                       ReadSupervision(directory));
  Bookkeeping books(directory, supervisor, addresses, before);
  MeshRun run(addresses.at("orchestrator").grpc, directory);
  TrainSession session(supervisor, run, screen, Clock::Real(),
                       {.directory = directory.string(), .command = command});
  std::optional<TrainSession::Outcome> outcome;
  while (!outcome.has_value()) {
    MPO_RETURN_IF_ERROR(books.Update(/*now=*/false));
    outcome =
        session.Turn(rpc::WaitForTerminationSignal(absl::Milliseconds(100)));
  }
  MPO_RETURN_IF_ERROR(books.Update(/*now=*/true));
  if (*outcome == TrainSession::Outcome::kInterrupted) {
    screen.Line("stopped; nothing is lost. To go on: " + command);
    return *outcome;
  }
  // Why it failed, or paused itself.
  MPO_RETURN_IF_ERROR(session.status());
  return *outcome;
}

int Train(const TrainOptions& options) {
  rpc::BlockTerminationSignals();
  const absl::StatusOr<TrainConfig> configured = Configure(options);
  if (!configured.ok()) return Report(configured.status());
  TrainConfig train = *configured;
  const auto directory = RunDirectory::Lock(train.config.run().dir());
  if (!directory.ok()) return Report(directory.status());
  if (const absl::Status same = CheckSameRun(directory->path(), train);
      !same.ok()) {
    return Report(same);
  }
  const auto addresses = AssignAddresses(train.fixed_addresses, train.config);
  if (!addresses.ok()) return Report(addresses.status());
  const auto specs = PlanMesh(
      train.config, *addresses,
      {.binaries = BinaryFolder(),
       .resolved_config = directory->path() / "config.resolved.yaml",
       .logs = directory->path() / "logs",
       .cores = static_cast<int>(std::thread::hardware_concurrency())});
  if (!specs.ok()) return Report(specs.status());
  if (const absl::Status written = WriteConfigs(directory->path(), train);
      !written.ok()) {
    return Report(written);
  }
  TerminalScreen screen;
  screen.Line(absl::StrCat(
      "run ", train.config.run().name(), " in ", directory->path().string(),
      ", ", train.config.run().steps(), " steps, ", specs->size(),
      " processes; Ctrl-C stops it, the "
      "same command goes on"));
  const auto outcome = RunMesh(*specs, *addresses, directory->path(),
                               CommandOf(options), screen);
  if (!outcome.ok()) return Report(outcome.status());
  const bool finished = *outcome == TrainSession::Outcome::kFinished;
  const absl::Status done =
      Finish(directory->path(), finished && !options.no_report, screen);
  // A run interrupted before its first step has nothing to sum up.
  return finished ? Report(done) : kExitOk;
}

}  // namespace

void AddTrainCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "train",
      "Train on this machine: start the five services, watch over them, "
      "report; resumes where the run directory exists");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("config", options->config, "YAML file of the run")
      ->required();
  command
      ->add_option("--set", options->overrides,
                   "section.key=value in place of what the file says")
      ->allow_extra_args(false);
  command->add_option("--dir", options->directory,
                      "Run directory, in place of run.dir");
  command->add_option("--seed", options->seed, "In place of run.seed");
  command->add_flag("--no-report", options->no_report,
                    "Do not write report.html");
  command->callback(
      [options, &action] { action = [options] { return Train(*options); }; });
}

}  // namespace mpo::cli
