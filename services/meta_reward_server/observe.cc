// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "mpo/judge/measures.h"
#include "services/meta_reward_server/evidence_analysis.h"

namespace mpo::meta_reward_server {

absl::StatusOr<std::vector<Observation>> Observe(
    const std::vector<EvidenceItem>& evidence) {
  std::map<int64_t, std::vector<const EvidenceItem*>> steps;
  for (const EvidenceItem& item : evidence) {
    if (!std::isfinite(item.base_mean_logprob)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "sample ", item.sample_key, ": base_mean_logprob is not finite"));
    }
    // A rollout that broke says nothing about the policy.
    if (!item.verdict.scored &&
        item.verdict.reason == UnscorableReason::kInvalidResponse) {
      continue;
    }
    steps[item.step].push_back(&item);
  }
  std::vector<Observation> observations;
  for (const auto& [step, items] : steps) {
    std::vector<judge::MeasuredText> batch;
    for (const EvidenceItem* item : items) {
      batch.push_back(
          {&item->prompt, &item->response, item->base_mean_logprob});
    }
    std::vector<judge::Measures> measures = judge::MeasureBatch(batch);
    for (size_t i = 0; i < items.size(); ++i) {
      Observation& row = observations.emplace_back();
      row.measures = std::move(measures[i]);
      const Verdict& verdict = items[i]->verdict;
      if (verdict.scored && verdict.maximum > 0) {
        row.share = verdict.raw / verdict.maximum;
      }
    }
  }
  return observations;
}

}  // namespace mpo::meta_reward_server
