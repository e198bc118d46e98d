// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/judge/chat_client.h"
#include "mpo/types/refinement.h"

namespace mpo::meta_reward_server {

// Every metric of the meta-reward server; all series exist from the start.
// Thread-safe.
class MetaRewardMetrics {
 public:
  // `registry` must outlive the metrics.
  explicit MetaRewardMetrics(prometheus::Registry& registry);

  // A refinement ended. Outcomes: "changed", "unchanged", "invalid",
  // "unavailable", "cancelled" or "failed".
  void Finished(const absl::StatusOr<RefinementProposal>& result,
                absl::Duration elapsed);
  // One HTTP request to the meta-judge.
  void Asked(const judge::ChatAttempt& attempt);

  prometheus::Gauge& in_flight;  // Refinements queued or running.
  prometheus::Counter& joined;   // Calls that met a known refinement id.

 private:
  std::map<std::string, prometheus::Counter*> refinements_;  // By outcome.
  std::map<std::string, prometheus::Counter*> changes_;      // By action.
  std::map<std::string, prometheus::Counter*> requests_;     // By outcome.
  prometheus::Counter& other_requests_;
  prometheus::Histogram& seconds_;
  prometheus::Histogram& request_seconds_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& completion_tokens_;
  prometheus::Gauge& criteria_;  // Of the last proposal.
};

}  // namespace mpo::meta_reward_server
