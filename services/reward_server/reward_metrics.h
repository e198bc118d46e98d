// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "absl/time/time.h"
#include "mpo/judge/chat_client.h"
#include "mpo/types/verdict.h"

namespace mpo::reward_server {

// Counters of the reward server. Thread-safe.
class RewardMetrics {
 public:
  // `registry` must outlive the metrics.
  explicit RewardMetrics(prometheus::Registry& registry);

  void Judged(const Verdict& verdict);
  void Batch(absl::Duration elapsed, size_t items);
  void Asked(const judge::ChatAttempt& attempt);
  void QueueDepth(size_t depth) { queue_.Set(static_cast<double>(depth)); }
  void Rubrics(size_t count) { rubrics_.Set(static_cast<double>(count)); }

 private:
  prometheus::Family<prometheus::Counter>& verdicts_;
  prometheus::Family<prometheus::Counter>& attempts_;
  prometheus::Histogram& batch_seconds_;
  prometheus::Histogram& attempt_seconds_;
  prometheus::Counter& items_;
  prometheus::Gauge& queue_;
  prometheus::Gauge& rubrics_;
};

}  // namespace mpo::reward_server
