// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/rollout_actor_metrics.h"

namespace mpo::rollout_actor {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets& Seconds() {
  static const Buckets buckets = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};
  return buckets;
}

const Buckets& Tokens() {
  static const Buckets buckets = {8,   16,  32,   64,   128,
                                  256, 512, 1024, 4096, 32768};
  return buckets;
}

}  // namespace

struct RolloutActorMetrics::Families {
  prometheus::Family<prometheus::Counter>& rollouts;
  prometheus::Family<prometheus::Counter>& units;
  prometheus::Family<prometheus::Histogram>& seconds;
};

RolloutActorMetrics::RolloutActorMetrics(prometheus::Registry& registry)
    : RolloutActorMetrics(
          registry, {BuildCounter()
                         .Name("mpo_rollouts_total")
                         .Help("Rollouts made, by what became of them.")
                         .Register(registry),
                     BuildCounter()
                         .Name("mpo_actor_units_total")
                         .Help("Units of work leased, by what became of them.")
                         .Register(registry),
                     BuildHistogram()
                         .Name("mpo_actor_phase_seconds")
                         .Help("Time of one unit by phase.")
                         .Register(registry)}) {}

RolloutActorMetrics::RolloutActorMetrics(prometheus::Registry& registry,
                                         Families families)
    : weights_version(BuildGauge()
                          .Name("mpo_actor_weights_version")
                          .Help("Policy version in use.")
                          .Register(registry)
                          .Add({})),
      weights_apply_seconds(
          BuildHistogram()
              .Name("mpo_actor_weights_apply_seconds")
              .Help("Time to fetch, verify and swap in one version.")
              .Register(registry)
              .Add({}, Seconds())),
      weights_verify_failures(
          BuildCounter()
              .Name("mpo_actor_weights_verify_failures_total")
              .Help("Versions refused: checksum, digest or shape was wrong.")
              .Register(registry)
              .Add({})),
      rollouts_scored(families.rollouts.Add({{"outcome", "scored"}})),
      rollouts_unscorable(families.rollouts.Add({{"outcome", "unscorable"}})),
      rollouts_failed(families.rollouts.Add({{"outcome", "failed"}})),
      rollouts_truncated(BuildCounter()
                             .Name("mpo_rollout_truncated_total")
                             .Help("Rollouts that reached the token limit.")
                             .Register(registry)
                             .Add({})),
      rollout_response_tokens(BuildHistogram()
                                  .Name("mpo_rollout_response_tokens")
                                  .Help("Tokens of a response.")
                                  .Register(registry)
                                  .Add({}, Tokens())),
      generation_tokens(BuildCounter()
                            .Name("mpo_generation_tokens_total")
                            .Help("Tokens drawn from the policy.")
                            .Register(registry)
                            .Add({})),
      units_completed(families.units.Add({{"outcome", "completed"}})),
      units_returned(families.units.Add({{"outcome", "returned"}})),
      units_lost(families.units.Add({{"outcome", "lost"}})),
      lease_expired(BuildCounter()
                        .Name("mpo_lease_expired_total")
                        .Help("Leases lost while their unit was in hand.")
                        .Register(registry)
                        .Add({})),
      generate_seconds(
          families.seconds.Add({{"phase", "generate"}}, Seconds())),
      measure_seconds(families.seconds.Add({{"phase", "measure"}}, Seconds())),
      judge_seconds(families.seconds.Add({{"phase", "judge"}}, Seconds())),
      submit_seconds(families.seconds.Add({{"phase", "submit"}}, Seconds())) {}

}  // namespace mpo::rollout_actor
