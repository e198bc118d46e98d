// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/commands.h"
#include "cli/doctor_checks.h"
#include "cli/exit_code.h"
#include "cli/preconditions.h"
#include "cli/train_config.h"
#include "mpo/base/file.h"

namespace mpo::cli {
namespace {

struct DoctorOptions {
  std::string run;
  std::string config;
  std::string judge;
  bool json = false;
};

void CheckConfig(const std::string& file, std::vector<Finding>& findings) {
  const auto failed = [&](const std::string& name, const std::string& detail) {
    findings.push_back(
        {.level = Finding::Level::kFailed, .name = name, .detail = detail});
  };
  const absl::StatusOr<TrainConfig> train = LoadTrainConfig(file, {});
  if (!train.ok()) {
    for (const auto& line :
         absl::StrSplit(std::string(train.status().message()), '\n')) {
      failed("config", std::string(line));
    }
    return;
  }
  const std::vector<std::string> problems = FindProblems(train->config);
  for (const std::string& problem : problems) failed("config", problem);
  if (problems.empty()) {
    findings.push_back({.name = "config",
                        .detail = absl::StrCat(
                            file, ", model, rubric and data are in order")});
  }
  std::vector<std::string> judges = {train->config.reward().judge()};
  if (train->config.meta().every() > 0) {
    judges.push_back(train->config.meta().judge());
  }
  for (const std::string& judge : judges) {
    if (judge != "embedded") findings.push_back(CheckJudge(judge));
  }
}

int Doctor(const DoctorOptions& options) {
  const std::string meminfo = ReadFile("/proc/meminfo").value_or("");
  const std::string cpuinfo = ReadFile("/proc/cpuinfo").value_or("");
  std::vector<Finding> findings =
      CheckMachine(meminfo, cpuinfo, options.run.empty() ? "." : options.run);
  findings.push_back(CheckTorch());
  if (!options.config.empty()) CheckConfig(options.config, findings);
  if (!options.judge.empty()) findings.push_back(CheckJudge(options.judge));
  if (!options.run.empty()) {
    for (Finding& finding : AuditRun(options.run)) {
      findings.push_back(std::move(finding));
    }
  }
  if (options.json) {
    std::printf("%s\n", ToJson(findings).c_str());
  } else {
    for (const Finding& finding : findings) {
      std::printf("%s\n", ToLine(finding).c_str());
    }
  }
  return AnyFailed(findings) ? kExitFailed : kExitOk;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "doctor", "Check the machine, a configuration, a judge, a run");
  auto options = std::make_shared<DoctorOptions>();
  command->add_option("--run", options->run,
                      "Run directory: prove that every sample counts once");
  command->add_option("--config", options->config, "YAML file of a run");
  command->add_option("--judge", options->judge,
                      "Base URL of an OpenAI-compatible server");
  command->add_flag("--json", options->json, "For machines");
  command->callback(
      [options, &action] { action = [options] { return Doctor(*options); }; });
}

}  // namespace mpo::cli
