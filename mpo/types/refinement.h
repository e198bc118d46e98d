// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mpo/types/prompt.h"
#include "mpo/types/rubric.h"
#include "mpo/types/verdict.h"

namespace mpo {

// One judged response shown to the meta-judge. Holds nothing of the gold
// measure.
struct EvidenceItem {
  std::string sample_key;
  int64_t step = 0;
  Prompt prompt;
  std::string response;
  Verdict verdict;
  double base_mean_logprob = 0;  // BaseStatistics::mean_logprob.
};

// What a refinement is asked to do.
struct RefinementRequest {
  std::string id;  // Idempotency key.
  std::string task;
  int64_t step = 0;  // Last committed step of the evidence.
  Rubric rubric;     // The active rubric.
  std::vector<EvidenceItem> baseline;  // Responses of the untrained policy.
  std::vector<EvidenceItem> recent;    // Responses of the last steps.
  std::string memory;  // RefinementProposal::memory of the last review, or "".
};

// One edit and the evidence for it.
struct RubricChange {
  std::string action;     // "add", "harden", "widen", "raise", "drop", ...
  std::string criterion;  // Criterion id.
  std::string reason;     // A sentence with the figures that justify it.
};

// What came out.
struct RefinementProposal {
  Rubric rubric;  // Equal to the request's rubric when nothing was found.
  std::vector<RubricChange> changes;  // Empty = no change proposed.
  std::vector<std::string> analyses;  // Meta-analyses, for the record.
  std::string memory;  // Opaque; handed to the next review.
};

}  // namespace mpo
