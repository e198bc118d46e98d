// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"

namespace mpo::evaluation {

// The held-out quality measure. No grader and no reviewer may include this
// header (tools/check_layers.py); docs/gold.md has formulas and weaknesses.
struct GoldScore {
  double value = 0;  // 0..10.
  // Name and value (0..1) of each part, in a fixed order.
  std::vector<std::pair<std::string, double>> parts;
};

// Every constant of the essay's gold.
struct GoldConstants {
  double part_floor = 0.02;  // No part pulls the product below this.
  // Logistic of the worst window's surprise under the base, nats a token.
  double surprise_middle = 5.0;
  double surprise_width = 0.5;
  // Compressed / plain size (zlib, level 9): 0 points and full points.
  double zlib_zero = 0.35;
  double zlib_full = 0.60;
  double content_words_full = 12;  // Distinct content words for full points.
  double mentions_full = 4;        // Over 1.5 x mentions of the key term used
                                   // most: about 3 mentions are free.
  int sentence_words_least = 5;    // Words of a well-formed sentence.
  int sentence_words_most = 32;
  // Band of BaseStatistics::subject_gain, nats a token of the subject: a
  // logistic up where the text argues the claim, one down where it copies it.
  double subject_middle = 0.6;
  double subject_width = 0.4;
  double copy_middle = 3.8;
  double copy_width = 0.3;
};

// Essay: 10 x the geometric mean of the six parts. Math: 10 where the
// response's final number equals the prompt's reference, else 0.
// INVALID_ARGUMENT: unknown task; essay without subject or key terms; math
// without a numeric reference; statistics that are not finite.
absl::StatusOr<GoldScore> Gold(const Prompt& prompt,
                               const std::string& response,
                               const BaseStatistics& statistics,
                               const GoldConstants& constants = {});

}  // namespace mpo::evaluation
