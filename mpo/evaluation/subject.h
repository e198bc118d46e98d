// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "mpo/types/prompt.h"

namespace mpo::evaluation {

// How BaseStatistics::subject_gain is measured: the frozen base reads `alone`
// and `after_text`, each from the start of a document (the model's
// <|endoftext|> or BOS token before it where it has one, no chat template),
// and continues with `target`. The gain is the mean log-prob of the target's
// tokens after `after_text` minus the same after `alone`, at temperature 1.
// The frame "In short:" makes the claim a conclusion, so that a copy of its
// words counts less than without one (docs/gold.md has the figures).
struct SubjectProbe {
  std::string alone;
  std::string after_text;
  std::string target;
};

inline SubjectProbe MakeSubjectProbe(const Prompt& prompt,
                                     const std::string& response) {
  return {"In short:", response + "\nIn short:", " " + prompt.subject};
}

}  // namespace mpo::evaluation
