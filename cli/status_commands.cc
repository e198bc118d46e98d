// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/orchestrator_link.h"
#include "cli/progress.h"
#include "cli/run_summary.h"
#include "cli/target.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const RunState& state) {
  return {{"run", state.run},
          {"running", true},
          {"phase", state.phase},
          {"reason", state.reason},
          {"step", state.step},
          {"total_steps", state.total_steps},
          {"policy_version", state.policy_version},
          {"rubric_version", state.rubric_version},
          {"rubric_sha256", state.rubric_sha256},
          {"samples_done", state.samples_done},
          {"samples_planned", state.samples_planned},
          {"metrics", state.metrics}};
}

// Of a mesh that does not run, out of its ledger.
absl::Status OfflineStatus(const std::string& directory, bool json) {
  MPO_ASSIGN_OR_RETURN(const RunSnapshot snapshot, ReadRun(directory));
  const RunSummary summary = Summarise(snapshot);
  if (json) {
    Json out = Json::parse(ToJson(summary));
    out["running"] = false;
    out["total_steps"] = snapshot.run.total_steps;
    out["phase"] = snapshot.run.paused ? "paused" : "stopped";
    out["reason"] = snapshot.run.reason;
    if (summary.steps >= snapshot.run.last_step) out["phase"] = "finished";
    std::printf("%s\n", out.dump(2).c_str());
    return absl::OkStatus();
  }
  std::printf("not running, %lld of %lld steps\n%s",
              static_cast<long long>(summary.steps),
              static_cast<long long>(snapshot.run.total_steps),
              ToText(summary).c_str());
  return absl::OkStatus();
}

absl::Status Status(const Target& target, bool json) {
  const absl::StatusOr<std::string> found = AddressOf(target);
  if (!found.ok() && !absl::IsFailedPrecondition(found.status())) {
    return found.status();
  }
  const std::string address = found.value_or("");
  const absl::StatusOr<RunState> state =
      found.ok() ? ReadState(address, absl::Seconds(3))
                 : absl::StatusOr<RunState>(found.status());
  if (!state.ok()) {
    return target.run.empty() ? state.status()
                              : OfflineStatus(target.run, json);
  }
  if (json) {
    std::printf("%s\n", ToJson(*state).dump(2).c_str());
    return absl::OkStatus();
  }
  orchestrator::StepRecord step;
  step.step = state->step;
  step.rubric_version = state->rubric_version;
  step.metrics = state->metrics;
  std::printf("run %s at %s: %s, %d of %d samples of the next step\n%s\n",
              state->run.c_str(), address.c_str(), state->phase.c_str(),
              state->samples_done, state->samples_planned,
              StepLine(step, state->total_steps, std::nullopt).c_str());
  if (!state->reason.empty()) std::printf("%s\n", state->reason.c_str());
  return absl::OkStatus();
}

// A command that makes one call and says that it did.
void AddCall(CLI::App& app, Action& action, const char* name,
             const char* description, const char* done,
             const std::function<absl::Status(const std::string&)>& call) {
  CLI::App* command = app.add_subcommand(name, description);
  auto target = std::make_shared<Target>();
  AddTarget(*command, *target);
  command->callback([target, done, call, &action] {
    action = [target, done, call] {
      const absl::StatusOr<std::string> address = AddressOf(*target);
      if (!address.ok()) return Report(address.status());
      const absl::Status status = call(*address);
      if (status.ok()) std::printf("%s\n", done);
      return Report(status);
    };
  });
}

}  // namespace

void AddStatusCommands(CLI::App& app, Action& action) {
  CLI::App* status = app.add_subcommand("status", "Show where a run stands");
  auto target = std::make_shared<Target>();
  auto json = std::make_shared<bool>(false);
  AddTarget(*status, *target);
  status->add_flag("--json", *json, "For machines");
  status->callback([target, json, &action] {
    action = [target, json] { return Report(Status(*target, *json)); };
  });
  AddCall(app, action, "pause", "Hold a run after the samples in flight",
          "paused", [](const std::string& address) {
            return PauseRun(address, absl::StrCat(kOperatorPause, "mpo pause"));
          });
  AddCall(app, action, "resume", "Let a paused run go on", "resumed",
          ResumeRun);
  AddCall(app, action, "stop", "End a run for good after the steps in flight",
          "stopping", StopRun);
}

}  // namespace mpo::cli
