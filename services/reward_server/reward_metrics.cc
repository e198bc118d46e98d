// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/reward_metrics.h"

namespace mpo::reward_server {
namespace {

using prometheus::Histogram;

const Histogram::BucketBoundaries& Seconds() {
  static const Histogram::BucketBoundaries bounds = {
      0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120};
  return bounds;
}

}  // namespace

RewardMetrics::RewardMetrics(prometheus::Registry& registry)
    : verdicts_(prometheus::BuildCounter()
                    .Name("mpo_reward_server_verdicts_total")
                    .Help("Verdicts by outcome: scored, or why not")
                    .Register(registry)),
      attempts_(prometheus::BuildCounter()
                    .Name("mpo_reward_server_judge_attempts_total")
                    .Help("HTTP requests to the judge by outcome")
                    .Register(registry)),
      batch_seconds_(prometheus::BuildHistogram()
                         .Name("mpo_reward_server_batch_seconds")
                         .Help("Time to judge one batch")
                         .Register(registry)
                         .Add({}, Seconds())),
      attempt_seconds_(prometheus::BuildHistogram()
                           .Name("mpo_reward_server_judge_attempt_seconds")
                           .Help("Time of one HTTP request to the judge")
                           .Register(registry)
                           .Add({}, Seconds())),
      items_(prometheus::BuildCounter()
                 .Name("mpo_reward_server_items_total")
                 .Help("Responses judged")
                 .Register(registry)
                 .Add({})),
      queue_(prometheus::BuildGauge()
                 .Name("mpo_reward_server_queue_depth")
                 .Help("Batches that wait for a worker")
                 .Register(registry)
                 .Add({})),
      rubrics_(prometheus::BuildGauge()
                   .Name("mpo_reward_server_rubrics")
                   .Help("Rubrics known")
                   .Register(registry)
                   .Add({})) {}

void RewardMetrics::Judged(const Verdict& verdict) {
  const char* outcome = verdict.scored ? "scored" : Name(verdict.reason);
  verdicts_.Add({{"outcome", outcome}}).Increment();
}

void RewardMetrics::Batch(absl::Duration elapsed, size_t items) {
  batch_seconds_.Observe(absl::ToDoubleSeconds(elapsed));
  items_.Increment(static_cast<double>(items));
}

void RewardMetrics::Asked(const judge::ChatAttempt& attempt) {
  attempts_.Add({{"outcome", attempt.outcome}}).Increment();
  attempt_seconds_.Observe(absl::ToDoubleSeconds(attempt.elapsed));
}

}  // namespace mpo::reward_server
