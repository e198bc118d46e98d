// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace mpo::generation {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // Nats, temperature 1.
};

// The `count` likeliest tokens of a row of logits [vocabulary], best first,
// equal ones by id; all where there are fewer. `known`: the log-prob of one
// token of the row, from which the others follow and which it keeps to the bit.
std::vector<TokenLogprob> TopLogprobs(const float* logits, int64_t vocabulary,
                                      int count, const TokenLogprob& known);

}  // namespace mpo::generation
