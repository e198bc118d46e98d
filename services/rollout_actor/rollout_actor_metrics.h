// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace mpo::rollout_actor {

// The actor's counters. Members are set by its engine; thread-safe.
struct RolloutActorMetrics {
  // `registry` must outlive this.
  explicit RolloutActorMetrics(prometheus::Registry& registry);

  prometheus::Gauge& weights_version;
  prometheus::Histogram& weights_apply_seconds;
  // Versions thrown away because a checksum, digest or shape was wrong.
  prometheus::Counter& weights_verify_failures;
  prometheus::Counter& rollouts_scored;
  prometheus::Counter& rollouts_unscorable;
  prometheus::Counter& rollouts_failed;  // Generation broke; never judged.
  prometheus::Counter& rollouts_truncated;
  prometheus::Histogram& rollout_response_tokens;
  prometheus::Counter& generation_tokens;
  prometheus::Counter& units_completed;
  prometheus::Counter& units_returned;  // Given back with a reason.
  prometheus::Counter& units_lost;      // Lease lost while in hand.
  prometheus::Counter& lease_expired;
  prometheus::Histogram& generate_seconds;
  prometheus::Histogram& measure_seconds;
  prometheus::Histogram& judge_seconds;
  prometheus::Histogram& submit_seconds;

 private:
  struct Families;
  RolloutActorMetrics(prometheus::Registry& registry, Families families);
};

}  // namespace mpo::rollout_actor
