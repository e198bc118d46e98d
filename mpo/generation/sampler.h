// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "mpo/types/rollout.h"

namespace mpo::generation {

// One row to draw from and what was drawn.
struct Draw {
  const float* raw = nullptr;     // [vocabulary] as the model gave them.
  const float* logits = nullptr;  // [vocabulary] to draw from: raw or a copy
                                  // with penalties and bans applied.
  const SamplingOptions* options = nullptr;
  uint64_t seed = 0;
  uint64_t counter = 0;  // Position of the token in its response.

  bool finite = false;  // False: NaN or infinite logits; the rest is unset.
  int32_t token = 0;
  float logprob = 0;     // Under the distribution drawn from; 0 when greedy.
  float untempered = 0;  // Of the raw logits at temperature 1.
};

// INVALID_ARGUMENT names the option that is out of range.
absl::Status Validate(const SamplingOptions& options);

// Draws one token a row by the inverse of the cumulative distribution at
// CounterUniform(seed, counter). Temperature, then top-k, then top-p, then
// min-p; equal logits go to the lower token. Pure function of each row; OpenMP
// over rows.
void SampleRows(int64_t vocabulary, Draw* draws, int rows, int threads);

// A token to look up in a row of logits.
struct Lookup {
  const float* logits = nullptr;  // [vocabulary]
  int32_t token = 0;
  float logprob = 0;  // Set: temperature 1; NaN where logits are not finite.
};

// Fills `logprob` of every lookup; OpenMP over them.
void LogProbRows(int64_t vocabulary, Lookup* lookups, int rows, int threads);

}  // namespace mpo::generation
