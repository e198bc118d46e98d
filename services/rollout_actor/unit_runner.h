// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"
#include "mpo/types/rollout.h"
#include "mpo/types/trunk.h"
#include "services/rollout_actor/base_measurement.h"
#include "services/rollout_actor/peers.h"
#include "services/rollout_actor/policy_replica.h"
#include "services/rollout_actor/retry.h"
#include "services/rollout_actor/rollout_actor_metrics.h"

namespace mpo::rollout_actor {

// What a unit is made with; everything is borrowed.
struct UnitTools {
  PolicyReplica& policy;
  const text::Tokenizer& tokenizer;
  // Not OK: the model has none; only raw prompts can be rendered.
  const absl::StatusOr<text::ChatTemplate>& chat;
  Peers& peers;
  RolloutActorMetrics& metrics;
  Clock& clock;
  // Whether rollouts go to the learner with their trunks.
  bool submit_trunks = false;
};

// Turns a leased unit into judged rollouts: weights, generation of exactly the
// unit's batch, base statistics, verdicts, hand-over to the learner. Not
// thread-safe: it belongs to the thread that generates.
class UnitRunner {
 public:
  UnitRunner(UnitTools tools, RetryPolicy retry);

  // Fetches weights until a version of at least `min_version` is in force.
  // Weights that fail a check are fetched again. CANCELLED once `stop` is
  // requested; FAILED_PRECONDITION, INVALID_ARGUMENT: what came can never fit.
  absl::Status EnsureWeights(PolicyVersion min_version, std::stop_token stop);

  // Generates, measures, has the unit judged and, for training, hands the
  // rollouts to the learner. Calls to peers are tried again until they answer
  // or `stop` is requested: an absent judge delays and never becomes a score.
  // A sample whose generation or measurement failed is unscorable
  // (invalid_response) and never judged. CANCELLED once `stop` is requested;
  // other codes: this unit cannot be made here, give it back.
  absl::StatusOr<UnitOutcomes> Run(const WorkUnit& unit, std::stop_token stop);

  int64_t generated_tokens() const { return generated_tokens_.load(); }
  void CountTokens(int64_t tokens);

 private:
  // One sample on its way.
  struct Made {
    Rollout rollout;
    std::optional<BaseStatistics> base;
    absl::Status failure;  // Not OK: unscorable, with this message.
    std::shared_ptr<const Trunk> trunk;
    Verdicts verdicts;
  };

  absl::StatusOr<std::vector<Made>> Generate(const WorkUnit& unit,
                                             std::stop_token stop);
  absl::Status Measure(const WorkUnit& unit, std::vector<Made>& made,
                       std::stop_token stop);
  absl::Status Judge(const WorkUnit& unit, std::vector<Made>& made,
                     std::stop_token stop);
  absl::Status Submit(const std::vector<Made>& made, std::stop_token stop);
  void Count(const std::vector<Made>& made);

  const UnitTools tools_;
  const RetryPolicy retry_;
  BaseMeasurement measurement_;
  std::atomic<int64_t> generated_tokens_ = 0;
};

}  // namespace mpo::rollout_actor
