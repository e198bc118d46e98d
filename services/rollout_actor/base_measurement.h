// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "mpo/generation/engine.h"
#include "mpo/text/tokenizer.h"
#include "mpo/types/rollout.h"
#include "mpo/types/trunk.h"

namespace mpo::rollout_actor {

// Tokens of the window whose surprise counts as the worst.
inline constexpr int kSurpriseWindow = 8;

// `mean_logprob` and `worst_window_surprise` of a response from the base's
// log-probs of its tokens (at least one).
BaseStatistics StatisticsOf(absl::Span<const float> logprobs);

// One response to measure. Pointers are borrowed.
struct MeasuredResponse {
  const Prompt* prompt = nullptr;
  const std::vector<int32_t>* prompt_tokens = nullptr;
  const std::vector<int32_t>* response_tokens = nullptr;  // At least one.
  std::string text;
  // As the generation left it; all responses of a call have one or none.
  std::shared_ptr<const Trunk> trunk = nullptr;
};

// Measures what the frozen base model says of responses; the subject's gain as
// mpo/evaluation/subject.h frames it. A text too long for the context is read
// without its beginning. Remembers each subject's log-prob alone, which is
// measured by itself, so that the result for a batch does not depend on what
// was measured before. Not thread-safe: it runs on the thread that owns the
// engine.
class BaseMeasurement {
 public:
  // `engine` must hold the base model. Both must outlive this.
  BaseMeasurement(generation::Engine& engine, const text::Tokenizer& tokenizer);

  // One result a response, in order; an error of one response stands in its
  // place. CANCELLED once `stop` is requested, otherwise as Engine::LogProbs.
  absl::StatusOr<std::vector<absl::StatusOr<BaseStatistics>>> Measure(
      const std::vector<MeasuredResponse>& responses, std::stop_token stop);

 private:
  // Tokens of `context` from the start of a document, then of `target`.
  absl::StatusOr<generation::ScoreRequest> Probe(const std::string& context,
                                                 const std::string& target);
  // Log-prob of the subject alone, nats a token.
  absl::StatusOr<double> Alone(const Prompt& prompt, std::stop_token stop);

  generation::Engine& engine_;
  const text::Tokenizer& tokenizer_;
  std::vector<int32_t> start_;           // Start-of-document token, if any.
  std::map<std::string, double> alone_;  // By subject: nats a token.
};

}  // namespace mpo::rollout_actor
