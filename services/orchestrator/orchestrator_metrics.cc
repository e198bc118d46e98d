// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/orchestrator_metrics.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "services/orchestrator/plan.h"

namespace mpo::orchestrator {
namespace {

std::string Prefixed(const char* name) {
  return absl::StrCat("mpo_orchestrator_", name);
}

prometheus::Counter& CounterOf(prometheus::Registry& registry, const char* name,
                               const char* help,
                               const prometheus::Labels& labels = {}) {
  return prometheus::BuildCounter()
      .Name(Prefixed(name))
      .Help(help)
      .Register(registry)
      .Add(labels);
}

prometheus::Gauge& GaugeOf(prometheus::Registry& registry, const char* name,
                           const char* help,
                           const prometheus::Labels& labels = {}) {
  return prometheus::BuildGauge()
      .Name(Prefixed(name))
      .Help(help)
      .Register(registry)
      .Add(labels);
}

}  // namespace

OrchestratorMetrics::OrchestratorMetrics(prometheus::Registry& registry)
    : lease_grants(CounterOf(registry, "lease_grants_total",
                             "Units of work granted to a member")),
      lease_expirations(CounterOf(registry, "lease_expirations_total",
                                  "Leases that ended without a result")),
      units_failed(CounterOf(registry, "units_failed_total",
                             "Units given back by their holder")),
      samples_recorded(CounterOf(registry, "samples_recorded_total",
                                 "Samples whose outcome was recorded")),
      samples_unscorable(CounterOf(registry, "samples_unscorable_total",
                                   "Recorded samples without a score")),
      dedupe_hits(CounterOf(registry, "dedupe_hits_total",
                            "Outcomes of samples that were complete already")),
      ledger_errors(CounterOf(registry, "ledger_errors_total",
                              "Ledger calls that failed")),
      steps_committed(CounterOf(registry, "steps_committed_total",
                                "Steps committed by this process")),
      step(GaugeOf(registry, "step", "Last committed step")),
      run_steps(GaugeOf(registry, "run_steps",
                        "Step after which the run is finished")),
      rubric_version(
          GaugeOf(registry, "rubric_version", "Version of the active rubric")),
      paused(GaugeOf(registry, "paused", "1 while the run is paused")),
      waiting_calls(GaugeOf(registry, "waiting_calls",
                            "LeaseWork and AssignBatch calls that wait")),
      proxy(
          GaugeOf(registry, "proxy",
                  "Mean share of the initial rubric of the last step, 0..10")),
      gold(GaugeOf(registry, "gold", "Mean gold of the last step, 0..10")),
      last_commit(GaugeOf(registry, "last_commit_timestamp_seconds",
                          "When the last step was committed")) {
  // Not measured is not 0.
  proxy.Set(std::numeric_limits<double>::quiet_NaN());
  gold.Set(std::numeric_limits<double>::quiet_NaN());
  for (const WorkKind kind : {WorkKind::kTraining, WorkKind::kEvaluation}) {
    leases_active_[kind] =
        &GaugeOf(registry, "leases_active", "Units held by a member",
                 {{"kind", Name(kind)}});
    units_open_[kind] =
        &GaugeOf(registry, "units_open", "Planned units without a result",
                 {{"kind", Name(kind)}});
  }
  for (const RefinementState state :
       {RefinementState::kAccepted, RefinementState::kUnchanged,
        RefinementState::kRejected, RefinementState::kFailed}) {
    refinements_[state] =
        &CounterOf(registry, "refinements_total", "Refinements that ended",
                   {{"outcome", Name(state)}});
  }
  for (const char* role : {"policy_learner", "rollout_actor", "reward_server",
                           "meta_reward_server"}) {
    members_[role] =
        &GaugeOf(registry, "members", "Members of the mesh", {{"role", role}});
  }
}

prometheus::Gauge& OrchestratorMetrics::LeasesActive(WorkKind kind) {
  return *leases_active_.at(kind);
}
prometheus::Gauge& OrchestratorMetrics::UnitsOpen(WorkKind kind) {
  return *units_open_.at(kind);
}
prometheus::Counter& OrchestratorMetrics::Refinements(RefinementState outcome) {
  const auto found = refinements_.find(outcome);
  return *(found == refinements_.end() ? refinements_.begin() : found)->second;
}

void OrchestratorMetrics::SetMembers(
    const std::map<std::string, int>& by_role) {
  for (const auto& [role, gauge] : members_) {
    const auto found = by_role.find(role);
    gauge->Set(found == by_role.end() ? 0 : found->second);
  }
}

}  // namespace mpo::orchestrator
