// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/top_logprobs.h"

#include <algorithm>
#include <numeric>

namespace mpo::generation {

std::vector<TokenLogprob> TopLogprobs(const float* logits, int64_t vocabulary,
                                      int count, const TokenLogprob& known) {
  const int64_t kept = std::min<int64_t>(count, vocabulary);
  std::vector<int32_t> tokens(vocabulary);
  std::iota(tokens.begin(), tokens.end(), 0);
  std::partial_sort(tokens.begin(), tokens.begin() + kept, tokens.end(),
                    [&](int32_t a, int32_t b) {
                      return logits[a] != logits[b] ? logits[a] > logits[b]
                                                    : a < b;
                    });
  // ln p = logit - (logit of the known token - its ln p).
  const float shift = logits[known.token] - known.logprob;
  std::vector<TokenLogprob> top;
  for (int64_t i = 0; i < kept; ++i) {
    top.push_back(tokens[i] == known.token
                      ? known
                      : TokenLogprob{tokens[i], logits[tokens[i]] - shift});
  }
  return top;
}

}  // namespace mpo::generation
