// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/refinement.h"
#include "services/meta_reward_server/evidence_analysis.h"
#include "services/meta_reward_server/refiner.h"
#include "services/meta_reward_server/review_rules.h"

namespace mpo::meta_reward_server {

struct ReviewerOptions {
  int max_criteria = 12;
  ReviewRules rules;
};

// The embedded reviewer: statistics of the evidence decide which criteria to
// harden, add, widen, raise or drop (docs/quickstart.md). No model, no clock,
// no randomness: equal requests give equal proposals. Pure functions.
//
// The proposal's rubric equals the request's where nothing was found;
// `analyses` has a line for every watched measure.
// INVALID_ARGUMENT: no evidence, unreadable memory, or as Observe.
absl::StatusOr<RefinementProposal> Review(const RefinementRequest& request,
                                          const ReviewerOptions& options = {});

// The same on measured evidence.
absl::StatusOr<RefinementProposal> ReviewObservations(
    const Rubric& rubric, const std::vector<Observation>& baseline,
    const std::vector<Observation>& recent, const std::string& memory,
    const ReviewerOptions& options = {});

// The reviewer behind the interface. Keeps nothing. Thread-safe.
class EmbeddedReviewer final : public Refiner {
 public:
  explicit EmbeddedReviewer(ReviewerOptions options)
      : options_(std::move(options)) {}

  // As Review; a review takes milliseconds, so `stop` is not looked at.
  absl::StatusOr<RefinementProposal> Refine(const RefinementRequest& request,
                                            const ProgressSink& progress,
                                            std::stop_token stop) override;

 private:
  const ReviewerOptions options_;
};

}  // namespace mpo::meta_reward_server
