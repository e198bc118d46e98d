// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/refinement.h"
#include "services/meta_reward_server/meta_prompts.h"

namespace mpo::meta_reward_server {

// What a gate needs to know of a candidate rubric.
struct Assessment {
  std::vector<std::string> problems;  // Empty = valid.
  // Means over the evidence of the share (0..1) of each rubric's maximum; all
  // figures are 0 where there are problems.
  double active_mean = 0;
  double candidate_mean = 0;
  double rank_correlation = 0;  // Spearman, of the two shares.
  double candidate_deviation = 0;
};

// Scores the evidence with the embedded grader under both rubrics. Criteria
// without a check cannot be measured here and are problems. Responses that
// either rubric cannot score are left out. Pure function.
// INVALID_ARGUMENT: no evidence, none that both rubrics can score, or an active
// rubric that is not valid.
absl::StatusOr<Assessment> Assess(const Rubric& active, const Rubric& candidate,
                                  const std::vector<EvidenceItem>& evidence,
                                  const PromptLimits& limits);

}  // namespace mpo::meta_reward_server
