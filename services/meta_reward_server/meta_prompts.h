// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/types/prompt.h"
#include "mpo/types/refinement.h"

namespace mpo::meta_reward_server {

// A measure the embedded grader can read, as the meta-judge sees it.
struct CatalogueEntry {
  std::string name;
  std::string description;
};

// The three things a meta-judge is asked, after the paper's analysis,
// refinement and merge. Material (prompts, responses, rationales) is embedded
// as JSON strings, so that nothing in it can pass for an instruction's end;
// invalid UTF-8 in it is replaced. Pure functions.

struct PromptLimits {
  int max_response_chars = 8000;  // Of a prompt, a response or a rationale.
  int max_criteria = 12;
  bool require_checks = false;
  std::vector<CatalogueEntry> catalogue;  // Empty = no check is offered.
};

// Asks for an analysis of one judged response. `truncated` counts the texts
// that were longer than the limit; each is marked where it was cut.
std::vector<ChatMessage> AnalysisPrompt(const RefinementRequest& request,
                                        const EvidenceItem& item,
                                        const PromptLimits& limits,
                                        int* truncated);

// Continues the chat with the request for a refined rubric.
std::vector<ChatMessage> RefinementPrompt(std::vector<ChatMessage> chat,
                                          const std::string& analysis,
                                          const PromptLimits& limits);

// Asks for one rubric out of the active one and the refinements (rubrics as
// WriteRubricJson writes them).
std::vector<ChatMessage> MergePrompt(const RefinementRequest& request,
                                     const std::vector<std::string>& rubrics,
                                     const PromptLimits& limits);

// At most `longest` bytes of `text`, cut at a code point, with a mark that says
// how much is missing.
std::string Shortened(const std::string& text, int longest, int* truncated);

}  // namespace mpo::meta_reward_server
