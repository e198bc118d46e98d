// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <map>
#include <string>

#include "mpo/types/rollout.h"
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

// This service's figures, all named mpo_orchestrator_*. Thread-safe.
class OrchestratorMetrics {
 public:
  // `registry` must outlive the object.
  explicit OrchestratorMetrics(prometheus::Registry& registry);

  prometheus::Counter& lease_grants;
  prometheus::Counter& lease_expirations;
  prometheus::Counter& units_failed;
  prometheus::Counter& samples_recorded;
  prometheus::Counter& samples_unscorable;
  prometheus::Counter& dedupe_hits;
  prometheus::Counter& ledger_errors;
  prometheus::Counter& steps_committed;
  prometheus::Gauge& step;
  prometheus::Gauge& run_steps;
  prometheus::Gauge& rubric_version;
  prometheus::Gauge& paused;
  prometheus::Gauge& waiting_calls;
  // Of the last committed step, 0..10; NaN until there is one.
  prometheus::Gauge& proxy;
  prometheus::Gauge& gold;
  prometheus::Gauge& last_commit;  // Unix seconds; 0 until there is one.

  prometheus::Gauge& LeasesActive(WorkKind kind);
  prometheus::Gauge& UnitsOpen(WorkKind kind);
  prometheus::Counter& Refinements(RefinementState outcome);
  // Roles: policy_learner, rollout_actor, reward_server, meta_reward_server.
  // Other roles are not counted.
  void SetMembers(const std::map<std::string, int>& by_role);

 private:
  std::map<WorkKind, prometheus::Gauge*> leases_active_;
  std::map<WorkKind, prometheus::Gauge*> units_open_;
  std::map<RefinementState, prometheus::Counter*> refinements_;
  std::map<std::string, prometheus::Gauge*> members_;
};

}  // namespace mpo::orchestrator
