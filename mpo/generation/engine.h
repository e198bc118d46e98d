// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/types/rollout.h"

namespace mpo::generation {

struct EngineState;

struct EngineOptions {
  // Samples decoded together; more wait for a free place. 1 to 4096.
  int max_rows = 64;
  // Prompt tokens of one forward pass. 16 to 65536.
  int prefill_tokens = 512;
  // Bytes of key-value cache; 0 = as much as max_rows samples need. A sample
  // waits until its worst case fits.
  uint64_t kv_cache_bytes = 0;
  // Tokens that end a response; unset = the model's, empty = none (responses
  // run to max_new_tokens).
  std::optional<std::vector<int32_t>> stop_tokens = std::nullopt;
};

// What the layers below `layer` made of the first tokens of a sequence: the
// inputs of that layer. Where no adapter sits below it they are the same for
// policy and base, so a later pass may start there.
struct Trunk {
  int64_t layer = 0;          // 1 to the model's layers - 1.
  std::vector<float> inputs;  // [tokens, hidden], float32.
};

struct GenerationRequest {
  std::string id;                      // Named in messages and in the result.
  std::vector<int32_t> prompt_tokens;  // At least one.
  uint64_t seed = 0;                   // Of this sample's draws.
  // Above 0: the result keeps the inputs of this layer.
  int64_t keep_trunk = 0;
};

struct GenerationResult {
  std::string id;
  std::vector<int32_t> tokens;  // With the stop token where one ended it.
  // Natural log of the probability of each token under the distribution it was
  // drawn from (temperature, top-k, top-p applied); 0 when greedy.
  std::vector<float> logprobs;
  // The same at temperature 1 without filters.
  std::vector<float> untempered_logprobs;
  FinishReason finish_reason = FinishReason::kFailed;
  // Not OK exactly when finish_reason is kFailed: INVALID_ARGUMENT for a
  // prompt that is empty, holds a token outside the vocabulary or leaves no
  // room in the context; RESOURCE_EXHAUSTED for one that the cache cannot
  // hold; DATA_LOSS for NaN or infinite logits. Tokens before the failure are
  // kept.
  absl::Status status;
  // Of prompt and response up to the token before the last; null where it was
  // not asked for or the sample failed.
  std::shared_ptr<const Trunk> trunk;
};

// A sequence to measure: log-probs of tokens [first_scored, size).
struct ScoreRequest {
  std::string id;
  std::vector<int32_t> tokens;
  int first_scored = 1;  // 1 to tokens.size().
  // Of the first tokens.size() - 1 tokens, as a generation of the same tokens
  // left it; null = computed here. All requests of a call or none.
  std::shared_ptr<const Trunk> trunk = nullptr;
};

struct ScoreResult {
  std::string id;
  std::vector<float> logprobs;  // Temperature 1, nats; size - first_scored.
  absl::Status status;  // As GenerationResult; logprobs empty if not OK.
};

// What the last call did.
struct EngineStatistics {
  int64_t prompt_tokens = 0;     // Prefilled, after sharing.
  int64_t generated_tokens = 0;  // Over all samples.
  int64_t decode_steps = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  uint64_t kv_cache_bytes = 0;      // Peak in use.
  uint64_t kv_bytes_per_token = 0;  // 2 x layers x kv heads x head size x 4.
};

// Batched decoding with a paged key-value cache on the CPU in float32. Equal
// prompts are prefilled once and share pages; a sample that finishes leaves
// the batch and the next waiting one takes its place. The draw at response
// position i of a sample is a pure function of (seed, i), so its tokens do not
// depend on its neighbours' draws. The same calls with the same number of
// threads give the same results bit for bit.
//
// Not thread-safe: one call at a time. Callbacks run on the calling thread.
class Engine {
 public:
  using Callback = std::function<void(const GenerationResult&)>;

  // INVALID_ARGUMENT for options out of range or a model that is not float32
  // on the CPU.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::shared_ptr<const model::LanguageModel> model,
      const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // One result a request, in the order of the requests. `adapter` null = the
  // base. `callback`, where set, sees each result once as soon as its sample
  // is finished. Once `stop` is requested, unfinished samples end as
  // kCancelled with what they have, before the next step. A failed sample
  // does not disturb others. INVALID_ARGUMENT for sampling options out of
  // range, an adapter that does not fit or a trunk that is not one (a layer out
  // of range, above the adapter's first, or not the same for all requests),
  // RESOURCE_EXHAUSTED or INTERNAL when the arithmetic fails as a whole.
  absl::StatusOr<std::vector<GenerationResult>> Generate(
      const std::vector<GenerationRequest>& requests,
      const SamplingOptions& sampling,
      const model::LoraAdapter* adapter = nullptr, std::stop_token stop = {},
      const Callback& callback = nullptr);

  // Log-probs of given tokens at temperature 1, in the order of the requests;
  // equal prefixes [0, first_scored) are computed once. With trunks only the
  // layers from theirs on are run. The logits of at most 128 positions exist at
  // a time. CANCELLED once `stop` is requested, else errors as Generate.
  absl::StatusOr<std::vector<ScoreResult>> LogProbs(
      const std::vector<ScoreRequest>& requests,
      const model::LoraAdapter* adapter = nullptr, std::stop_token stop = {});

  const EngineStatistics& statistics() const { return statistics_; }
  const model::LanguageModel& model() const { return *model_; }

 private:
  Engine(std::shared_ptr<const model::LanguageModel> model,
         const EngineOptions& options);

  std::shared_ptr<const model::LanguageModel> model_;
  EngineOptions options_;
  EngineStatistics statistics_;
  std::unique_ptr<EngineState> state_;
};

}  // namespace mpo::generation
