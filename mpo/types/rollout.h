// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mpo/types/prompt.h"

namespace mpo {

// Step after whose update the weights were published; 0 = the untrained policy.
using PolicyVersion = int64_t;

// How tokens are drawn. Defaults are the paper's generation settings.
struct SamplingOptions {
  double temperature = 0.7;  // 1e-6 to 10; 0 = greedy.
  int top_k = 0;             // 0 = off.
  double top_p = 1.0;        // (0, 1]; 1 = off.
  // [0, 1]; 0 = off. Drops tokens below min_p x the likeliest's probability.
  double min_p = 0;
  // (0, 10]; 1 = off. Logits of tokens of prompt and response so far are
  // divided by it where positive, else multiplied (Keskar et al. 2019).
  double repetition_penalty = 1;
  int min_new_tokens = 0;    // No stop token before.
  int max_new_tokens = 400;  // >= 1.
  bool operator==(const SamplingOptions&) const = default;
};

// One (step, prompt, replica) of the plan. The key never changes.
struct Sample {
  std::string
      key;  // 64 hex digits: SHA-256 of run, kind, step, prompt, replica.
  int64_t step = 0;
  int replica = 0;
  uint64_t seed = 0;  // Of this sample's counter-based generator.
  Prompt prompt;
  bool operator==(const Sample&) const = default;
};

enum class WorkKind { kTraining, kEvaluation };

// The composition of one generated batch, fixed by the plan, leased as a whole.
struct WorkUnit {
  std::string id;           // "<kind>/<step>/<index>".
  int64_t lease_epoch = 0;  // Fencing token; grows with every grant.
  WorkKind kind = WorkKind::kTraining;
  int64_t step = 0;
  PolicyVersion min_policy_version = 0;  // The oldest weights allowed.
  std::string rubric_sha256;             // Judges every sample of the step.
  std::string monitor_rubric_sha256;     // Initial rubric; empty = no monitor.
  SamplingOptions sampling;
  std::vector<Sample> samples;
  bool operator==(const WorkUnit&) const = default;
};

enum class FinishReason { kStop, kLength, kCancelled, kFailed };

// Tokens [begin, end) of a response were drawn from this policy version.
struct TokenSpan {
  int begin = 0;
  int end = 0;
  PolicyVersion policy_version = 0;
  bool operator==(const TokenSpan&) const = default;
};

// One generated response to a sample.
struct Rollout {
  std::string sample_key;
  int64_t step = 0;
  std::string group;  // Prompt id: replicas of one prompt form a group.
  std::vector<int32_t> prompt_tokens;
  std::vector<int32_t> response_tokens;  // With the end token when finished.
  // Natural log of the probability of each response token under the
  // distribution it was sampled from (temperature applied); same length.
  std::vector<float> logprobs;
  std::vector<TokenSpan> spans;
  FinishReason finish_reason = FinishReason::kLength;
  double temperature = 1.0;  // Of the behaviour policy.
  std::string text;          // Response without special tokens.
  bool operator==(const Rollout&) const = default;
};

// What the frozen base model says of a response; measured by the actor.
// `mean_logprob` may be read by graders; the other two are for gold only.
struct BaseStatistics {
  double mean_logprob = 0;  // Nats a token at temperature 1, <= 0.
  // Mean surprise (-logprob, nats) of the worst window of 8 tokens; of all
  // tokens where there are fewer.
  double worst_window_surprise = 0;
  // Mean log-prob gain (nats a token) of the prompt's subject when the text
  // precedes it, against the subject alone, framed as in
  // mpo/evaluation/subject.h. 0 where there is no subject.
  double subject_gain = 0;
  bool operator==(const BaseStatistics&) const = default;
};

}  // namespace mpo
