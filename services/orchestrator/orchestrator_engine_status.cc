// SPDX-License-Identifier: Apache-2.0
// What the engine tells subscribers, metrics and the log.
#include <algorithm>
#include <limits>
#include <utility>

#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "services/orchestrator/orchestrator_engine.h"

namespace mpo::orchestrator {
namespace {

// One line for each thing that a person follows.
void LogChange(const RunStatus& before, const RunStatus& now) {
  if (now.step != before.step) {
    logging::Info("step committed",
                  {{"step", now.step}, {"of", now.total_steps}});
  }
  if (now.rubric_sha256 != before.rubric_sha256) {
    logging::Info("rubric active", {{"version", now.rubric_version},
                                    {"sha256", now.rubric_sha256}});
  }
  if (now.reason != before.reason && !now.reason.empty()) {
    logging::Warning("run paused", {{"reason", now.reason}});
  }
  if (now.phase == Phase::kFinished && before.phase != now.phase) {
    logging::Info("run finished", {{"step", now.step}});
  }
}

// The figures of the last committed step, also of one committed by a process
// before this one.
void ShowStep(const StepRecord& step, OrchestratorMetrics& metrics) {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  const auto figure = [&step](const char* name) {
    const auto found = step.metrics.find(name);
    return found == step.metrics.end() ? kUnknown : found->second;
  };
  metrics.last_commit.Set(
      absl::ToDoubleSeconds(step.committed - absl::UnixEpoch()));
  metrics.proxy.Set(figure("proxy"));
  metrics.gold.Set(figure("gold"));
}

}  // namespace

absl::Status OrchestratorEngine::Publish(Deferred& deferred) {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  MPO_ASSIGN_OR_RETURN(const RubricRecord rubric,
                       ledger_.FindRubric(run.active_rubric));
  RunStatus status{
      .run_id = run.name,
      .phase = PhaseOf(options_.policy, options_.plan, run, progress),
      .step = progress.committed_step,
      .total_steps = run.last_step,
      .rubric_sha256 = run.active_rubric,
      .rubric_version = rubric.version.value_or(0),
      .samples_done = progress.samples_done,
      .samples_planned = progress.samples_planned,
      .reason = run.reason};
  if (progress.committed_step > 0) {
    MPO_ASSIGN_OR_RETURN(const StepRecord step,
                         ledger_.FindStep(progress.committed_step));
    status.metrics = step.metrics;
    ShowStep(step, parts_.metrics);
  }
  OrchestratorMetrics& metrics = parts_.metrics;
  metrics.step.Set(static_cast<double>(status.step));
  metrics.run_steps.Set(static_cast<double>(status.total_steps));
  metrics.rubric_version.Set(static_cast<double>(status.rubric_version));
  metrics.paused.Set(run.paused ? 1 : 0);
  metrics.waiting_calls.Set(
      static_cast<double>(lease_waits_.size() + batch_waits_.size()));
  MPO_ASSIGN_OR_RETURN(const std::vector<UnitRecord> units,
                       ledger_.OpenUnits());
  for (const WorkKind kind : {WorkKind::kTraining, WorkKind::kEvaluation}) {
    metrics.UnitsOpen(kind).Set(static_cast<double>(
        std::count_if(units.begin(), units.end(),
                      [kind](const auto& unit) { return unit.kind == kind; })));
    metrics.LeasesActive(kind).Set(static_cast<double>(std::count_if(
        leases_.begin(), leases_.end(),
        [kind](const auto& entry) { return entry.second.kind == kind; })));
  }
  refinement_open_ = progress.open_refinement.has_value();
  if (refinement_open_) refine_.NotifyAll();
  const bool differs = published_ != status;
  if (differs) {
    deferred.emplace_back([before = published_.value_or(RunStatus{}), status] {
      LogChange(before, status);
    });
  }
  for (const auto& [id, changed] : subscribers_) {
    if (!differs && !fresh_subscribers_.contains(id)) continue;
    deferred.emplace_back([tell = changed, status] { tell(status); });
  }
  fresh_subscribers_.clear();
  published_ = std::move(status);
  return absl::OkStatus();
}

uint64_t OrchestratorEngine::Subscribe(StatusChanged changed) {
  MutexLock lock(mu_);
  const uint64_t id = next_id_++;
  subscribers_[id] = std::move(changed);
  fresh_subscribers_.insert(id);
  Changed();
  return id;
}

void OrchestratorEngine::Unsubscribe(uint64_t subscription) {
  MutexLock lock(mu_);
  subscribers_.erase(subscription);
  fresh_subscribers_.erase(subscription);
}

}  // namespace mpo::orchestrator
