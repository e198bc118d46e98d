// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_reward_metrics.h"

namespace mpo::meta_reward_server {
namespace {

using prometheus::Histogram;

prometheus::Family<prometheus::Counter>& Counters(
    prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Gauge& OneGauge(prometheus::Registry& registry, const char* name,
                            const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(
      {});
}

Histogram& OneHistogram(prometheus::Registry& registry, const char* name,
                        const char* help) {
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(registry)
      .Add({}, Histogram::BucketBoundaries{0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10,
                                           30, 60, 120, 300, 600, 1800});
}

const char* OutcomeOf(const absl::StatusOr<RefinementProposal>& result) {
  if (result.ok()) return result->changes.empty() ? "unchanged" : "changed";
  switch (result.status().code()) {
    case absl::StatusCode::kFailedPrecondition:
      return "invalid";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    default:
      return "failed";
  }
}

}  // namespace

MetaRewardMetrics::MetaRewardMetrics(prometheus::Registry& registry)
    : in_flight(OneGauge(registry, "mpo_meta_refinements_in_flight",
                         "Refinements queued or running.")),
      joined(Counters(registry, "mpo_meta_refinements_joined_total",
                      "Calls that met a refinement already known by its id.")
                 .Add({})),
      other_requests_(Counters(registry, "mpo_meta_judge_requests_total",
                               "Requests to the meta-judge, by outcome.")
                          .Add({{"outcome", "other"}})),
      seconds_(OneHistogram(registry, "mpo_meta_refinement_seconds",
                            "Seconds a refinement took.")),
      request_seconds_(OneHistogram(registry, "mpo_meta_judge_request_seconds",
                                    "Seconds a request to the meta-judge "
                                    "took.")),
      prompt_tokens_(Counters(registry, "mpo_meta_judge_tokens_total",
                              "Tokens as the meta-judge's server counts them.")
                         .Add({{"kind", "prompt"}})),
      completion_tokens_(
          Counters(registry, "mpo_meta_judge_tokens_total",
                   "Tokens as the meta-judge's server counts them.")
              .Add({{"kind", "completion"}})),
      criteria_(OneGauge(registry, "mpo_meta_rubric_criteria",
                         "Criteria of the last proposed rubric.")) {
  auto& refinements = Counters(registry, "mpo_meta_refinements_total",
                               "Refinements that ended, by outcome.");
  for (const char* outcome : {"changed", "unchanged", "invalid", "unavailable",
                              "cancelled", "failed"}) {
    refinements_[outcome] = &refinements.Add({{"outcome", outcome}});
  }
  auto& changes = Counters(registry, "mpo_meta_changes_total",
                           "Proposed edits of a rubric, by action.");
  for (const char* action :
       {"add", "harden", "widen", "raise", "drop", "rewrite"}) {
    changes_[action] = &changes.Add({{"action", action}});
  }
  auto& requests = Counters(registry, "mpo_meta_judge_requests_total",
                            "Requests to the meta-judge, by outcome.");
  for (const char* outcome :
       {"ok", "timeout", "http_4xx", "http_429", "http_5xx", "connection",
        "parse_error", "refused", "circuit_open", "cancelled"}) {
    requests_[outcome] = &requests.Add({{"outcome", outcome}});
  }
}

void MetaRewardMetrics::Finished(
    const absl::StatusOr<RefinementProposal>& result, absl::Duration elapsed) {
  refinements_.at(OutcomeOf(result))->Increment();
  seconds_.Observe(absl::ToDoubleSeconds(elapsed));
  if (!result.ok()) return;
  criteria_.Set(static_cast<double>(result->rubric.criteria.size()));
  for (const RubricChange& change : result->changes) {
    const auto it = changes_.find(change.action);
    if (it != changes_.end()) it->second->Increment();
  }
}

void MetaRewardMetrics::Asked(const judge::ChatAttempt& attempt) {
  const auto it = requests_.find(attempt.outcome);
  (it == requests_.end() ? other_requests_ : *it->second).Increment();
  request_seconds_.Observe(absl::ToDoubleSeconds(attempt.elapsed));
  prompt_tokens_.Increment(static_cast<double>(attempt.prompt_tokens));
  completion_tokens_.Increment(static_cast<double>(attempt.completion_tokens));
}

}  // namespace mpo::meta_reward_server
