// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mpo/types/prompt.h"

namespace mpo::judge {

// The catalogue of measures that a criterion's check may name. All are
// programs over English text; words are runs of a-z and apostrophes, and words
// count as a key term when the first five letters agree.

// One entry of the catalogue.
struct MeasureSpec {
  const char* name;
  const char* description;
};
const std::vector<MeasureSpec>& MeasureCatalogue();
bool IsMeasure(const std::string& name);

// A response as the measures see it. The pointers must not be null.
struct MeasuredText {
  const Prompt* prompt = nullptr;
  const std::string* response = nullptr;
  std::optional<double> base_mean_logprob;  // Nats a token, if measured.
};

// Value by name. A measure that does not apply is absent: key-term measures
// without key terms, base_logprob where none was measured.
using Measures = std::map<std::string, double>;

// Measures of each response, in order. cross_duplication compares a response
// with those to other prompts of the same batch. Pure function.
std::vector<Measures> MeasureBatch(const std::vector<MeasuredText>& batch);

}  // namespace mpo::judge
