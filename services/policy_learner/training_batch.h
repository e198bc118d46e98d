// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "mpo/rl/gae.h"
#include "mpo/rl/moments.h"
#include "mpo/types/rollout.h"
#include "mpo/types/trunk.h"
#include "mpo/types/verdict.h"
#include "services/policy_learner/trainer_options.h"

namespace mpo::policy_learner {

// A rollout with its verdict: what actors submit.
struct TrainingSample {
  Rollout rollout;
  Verdict verdict;
  // Inputs of the first layer with an adapter for prompt and response without
  // its last token; null = to be computed.
  std::shared_ptr<const Trunk> trunk = nullptr;
  bool operator==(const TrainingSample&) const = default;
};

// What a sample is checked against.
struct SampleLimits {
  int64_t vocabulary = 0;
  int64_t context = 0;  // Tokens of prompt and response.
  int64_t hidden = 0;
  int64_t trunk_layer = 0;  // First layer with an adapter; 0 = no trunk.
  PolicyVersion newest_version = 0;  // Last published.
  int64_t last_step = 0;             // Of the run; 0 = any.
};

// INVALID_ARGUMENT names sample key and field: empty key or prompt, a step
// outside the run, lengths that differ, ids outside the vocabulary, log-probs
// that are not finite or above 0, token spans that do not cover the response
// or name a version from the future, a trunk of another layer or size or with
// numbers that are not finite, a temperature that is not above 0, a scored
// verdict without response or with a reward that is not within +-1e9.
absl::Status ValidateSample(const TrainingSample& sample,
                            const SampleLimits& limits);

// The samples of one step as tensors, one row a sample in plan order, T = the
// longest response. Rows of unscorable samples and of empty responses have no
// mask and thus enter nothing.
struct TrainingBatch {
  // Prompt and response; the response without its last token unless that has
  // a value to come after it (ScorePlacement::kAfterEnd).
  std::vector<std::vector<int32_t>> inputs;
  std::vector<int64_t> prompt_lengths;
  std::vector<int64_t> response_lengths;
  std::vector<int64_t> active;  // Rows with a mask, ascending.
  at::Tensor scores;            // [B] what is learned from; 0 if unscorable.
  at::Tensor raw_rewards;       // [B] as judged; 0 if unscorable.
  at::Tensor scored;            // [B] bool.
  at::Tensor groups;            // [B] int64.
  at::Tensor temperatures;      // [B]
  at::Tensor targets;           // [B, T] int64.
  at::Tensor behaviour;         // [B, T] log-probs at generation.
  at::Tensor mask;              // [B, T] bool.
  at::Tensor value_mask;        // [B, T] bool: positions with a value.
};

// Scores are rewards x reward_scale; normalised by `moments` when
// normalise_rewards is set, after the scored rewards of the batch have been
// merged into them (null = those of the batch alone); clamped to +-
// reward_clip; less missing_eos_penalty where the response did not end.
TrainingBatch MakeTrainingBatch(const std::vector<TrainingSample>& samples,
                                const TrainerOptions& options,
                                rl::Moments* moments = nullptr);

// Advantages [B, T] by the configured algorithm, whitened as configured, and
// for PPO the returns. `kl` [B, T] is read with kl_in = reward; `values`
// [B, T] for PPO only.
rl::Advantages ComputeAdvantages(const TrainerOptions& options,
                                 const TrainingBatch& batch,
                                 const at::Tensor& kl,
                                 const at::Tensor& values);

// Samples of one prompt that run through the model as one row: the prompt once,
// then the responses, none of which sees another.
struct PackedRow {
  std::vector<int64_t> samples;  // Rows of the batch.
  int64_t length = 0;            // Tokens.
};

// Packs `rows` of the batch and splits them into micro-batches of similar
// length: longest first, at most `token_budget` tokens with padding (a longer
// row stands alone), and where a micro-batch has 512 tokens already, at most a
// tenth padding. Deterministic.
std::vector<std::vector<PackedRow>> PlanMicroBatches(
    const TrainingBatch& batch, const std::vector<int64_t>& rows,
    int64_t token_budget);

}  // namespace mpo::policy_learner
