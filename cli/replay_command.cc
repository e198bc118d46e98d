// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/train_config.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/memory.h"
#include "services/policy_learner/replay.h"

namespace mpo::cli {
namespace {

struct ReplayFlags {
  std::string config;
  std::vector<std::string> overrides;
  std::string rollouts;
  std::string output;
  std::string checkpoint;
  int64_t last_step = 0;
  bool json = false;
};

// "-" where the step gave no such figure.
std::string Figure(const std::map<std::string, double>& figures,
                   const char* name, const char* format) {
  const auto found = figures.find(name);
  if (found == figures.end()) return "-";
  char text[64];
  std::snprintf(text, sizeof(text), format, found->second);
  return text;
}

void Show(const policy_learner::ReplayedStep& step, bool json) {
  if (json) {
    std::fputs(policy_learner::ToJsonLine(step).c_str(), stdout);
  } else {
    const auto& metrics = step.result.metrics;
    const auto nonfinite = metrics.find("nonfinite");
    double seconds = 0;
    for (const auto& [phase, spent] : step.result.seconds) seconds += spent;
    std::printf(
        "step %4lld  reward %s  loss %s  kl %s  grad %s  unscorable %s  "
        "%.1f s  weights %.12s%s\n",
        static_cast<long long>(step.step),
        Figure(metrics, "reward", "%.3f").c_str(),
        Figure(metrics, "policy_loss", "%.4f").c_str(),
        Figure(metrics, "kl", "%.4f").c_str(),
        Figure(metrics, "grad_norm", "%.3f").c_str(),
        Figure(metrics, "unscorable", "%.0f").c_str(), seconds,
        step.weights_sha256.c_str(),
        nonfinite != metrics.end() && nonfinite->second > 0
            ? "  NOT FINITE: the update was cut short"
            : "");
  }
  std::fflush(stdout);
}

absl::Status Run(const ReplayFlags& flags) {
  tensor::KeepMemory();
  MPO_ASSIGN_OR_RETURN(const TrainConfig train,
                       LoadTrainConfig(flags.config, flags.overrides));
  const policy_learner::ReplayOptions options{.config = train.config,
                                              .rollouts = flags.rollouts,
                                              .output = flags.output,
                                              .checkpoint = flags.checkpoint,
                                              .last_step = flags.last_step};
  return policy_learner::Replay(
      options, [&flags](const policy_learner::ReplayedStep& step) {
        Show(step, flags.json);
      });
}

}  // namespace

void AddReplayCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "replay", "Run learner updates on recorded rollouts, without a mesh");
  auto flags = std::make_shared<ReplayFlags>();
  command
      ->add_option("config", flags->config,
                   "YAML file of the run; policy and learner are used")
      ->required();
  command
      ->add_option("--set", flags->overrides,
                   "section.key=value in place of what the file says")
      ->allow_extra_args(false);
  command
      ->add_option("--rollouts", flags->rollouts,
                   "JSON lines, or a folder of them (learner.record_rollouts)")
      ->required();
  command
      ->add_option("--output", flags->output,
                   "Folder for metrics.jsonl and the last checkpoint")
      ->required();
  command->add_option("--checkpoint", flags->checkpoint,
                      "Checkpoint to begin from; its steps are skipped");
  command
      ->add_option("--last-step", flags->last_step,
                   "Later steps are skipped; 0 = none")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_flag("--json", flags->json, "One JSON object a step on stdout");
  command->callback(
      [flags, &action] { action = [flags] { return Report(Run(*flags)); }; });
}

}  // namespace mpo::cli
