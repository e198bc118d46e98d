// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/types/rubric.h"
#include "mpo/types/verdict.h"

namespace mpo::rubric {

// The sum a rubric makes of its criteria's scores.
struct Total {
  double raw = 0;
  double maximum = 0;  // Largest possible raw, > 0 for a valid rubric.
  double reward = 0;   // raw after the rubric's scale.
};

// OK when this version computes the rubric's aggregation and scale.
// UNIMPLEMENTED: aggregation implicit, scale continuity or running.
absl::Status CheckSupported(const Rubric& rubric);

// Adds up one score for each criterion of a valid rubric, in its order. A share
// is (score - minimum) / (maximum - minimum), and 1 - that where the criterion
// is deducted.
//   raw_sum          scores added, deducted ones subtracted
//   normalised_mean  mean of the shares
//   weighted         mean of the shares by weight
//   gated            as weighted
//   saturating       as weighted, but what is not essential counts only by the
//                    share of the essential criteria
// Only criteria of mode score are added. A gate that is not at its best, or a
// veto at its worst, makes the raw total the lowest possible.
// scale: none = raw; by_maximum = raw / maximum, at most 1.
// INVALID_ARGUMENT: scores do not belong to the criteria. UNIMPLEMENTED: as
// CheckSupported.
absl::StatusOr<Total> Aggregate(const Rubric& rubric,
                                const std::vector<CriterionScore>& scores);

}  // namespace mpo::rubric
