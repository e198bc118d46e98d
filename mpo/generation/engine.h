// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/generation/top_logprobs.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/types/rollout.h"
#include "mpo/types/trunk.h"

namespace mpo::generation {

struct EngineState;
class GenerationLoop;

struct EngineOptions {
  // Samples decoded together; more wait for a free place. 1 to 4096.
  int max_rows = 64;
  // Prompt tokens of one forward pass, 16 to 65536. 0 = 512; in batches of
  // small models, where a pass still takes about as long as one of SmolLM2 with
  // 128, up to 2048: the threads then meet less often.
  int prefill_tokens = 0;
  // Bytes of key-value cache; 0 = as much as max_rows samples need. A sample
  // waits until its worst case fits.
  uint64_t kv_cache_bytes = 0;
  // Tokens that end a response; unset = the model's, empty = none (responses
  // run to max_new_tokens).
  std::optional<std::vector<int32_t>> stop_tokens = std::nullopt;
  // True: at most prefill_tokens prompt tokens run beside the decoding samples,
  // which so never wait for a long prompt (serving). False: prompts first, then
  // wide decoding (batches).
  bool interleave_prefill = false;
  // False: LibTorch's operations also where the fused loops could run, to
  // compare the two.
  bool fused = true;
};

struct GenerationResult;

struct GenerationRequest {
  std::string id;                      // Named in messages and in the result.
  std::vector<int32_t> prompt_tokens;  // At least one.
  uint64_t seed = 0;                   // Of this sample's draws.
  // Above 0: the result keeps the inputs of this layer; the same for all
  // samples in hand.
  int64_t keep_trunk = 0;
  // Unset: those of the call.
  std::optional<SamplingOptions> sampling = std::nullopt;
  // Instead of the engine's.
  std::optional<std::vector<int32_t>> stop_tokens = std::nullopt;
  // Alternatives kept for every token, 0 to 100.
  int top_logprobs = 0;
  // Sees the result so far after every token, on the thread that steps the
  // engine; false ends the sample as kStop (stop strings, for example).
  std::function<bool(const GenerationResult&)> on_token = nullptr;
};

struct GenerationResult {
  std::string id;
  std::vector<int32_t> tokens;  // With the stop token where one ended it.
  // Natural log of the probability of each token under the distribution it was
  // drawn from (temperature, top-k, top-p applied); 0 when greedy.
  std::vector<float> logprobs;
  // Of the model's own distribution: temperature 1, no filters or penalties.
  std::vector<float> untempered_logprobs;
  // The likeliest tokens at each position, best first; empty if not asked for.
  std::vector<std::vector<TokenLogprob>> top_logprobs;
  // Which weights drew which tokens; see Engine::SetPolicy.
  std::vector<TokenSpan> spans;
  FinishReason finish_reason = FinishReason::kFailed;
  // Not OK exactly when finish_reason is kFailed: INVALID_ARGUMENT for a
  // prompt that is empty, holds a token outside the vocabulary or leaves no
  // room in the context; RESOURCE_EXHAUSTED for one that the cache cannot
  // hold; DATA_LOSS for NaN or infinite logits or log-probs. Tokens before the
  // failure are kept.
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
  // Likeliest tokens kept for every scored one, 0 to 100.
  int top_logprobs = 0;
};

struct ScoreResult {
  std::string id;
  std::vector<float> logprobs;  // Temperature 1, nats; size - first_scored.
  // As many, best first; empty if not asked for.
  std::vector<std::vector<TokenLogprob>> top_logprobs;
  absl::Status status;  // As GenerationResult; the rest is empty if not OK.
};

// What the last call did.
struct EngineStatistics {
  int64_t prompt_tokens = 0;     // Prefilled, after sharing.
  int64_t generated_tokens = 0;  // Over all samples.
  int64_t decode_steps = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double first_token_seconds = 0;  // From the call to the first token drawn.
  uint64_t kv_cache_bytes = 0;     // Peak in use.
  uint64_t kv_bytes_per_token =
      0;                       // 2 x layers x kv heads x head size x bytes.
  uint64_t kv_page_bytes = 0;  // Of 16 tokens, with what they are padded.
  uint64_t kv_allocated_bytes = 0;  // Held for the cache, used or not.
  int64_t kv_capacity_tokens = 0;   // What fits in there.
};

// Batched decoding with a paged key-value cache, on the model's device and in
// its dtype: fused loops for float32 on the CPU, LibTorch's operations and
// scaled_dot_product_attention elsewhere; draws are made on the CPU. Equal
// prompts are prefilled once and share pages; a sample that finishes leaves
// the batch and the next waiting one takes its place. The draw at response
// position i of a sample is a pure function of (seed, i), so its tokens do not
// depend on its neighbours' draws. The same calls with the same number of
// threads give the same results bit for bit.
//
// Two ways to use it: Generate runs a batch to its end; Submit and Step serve
// samples that come and go. Not thread-safe: one call at a time. Callbacks run
// on the calling thread and must not call the engine.
class Engine {
 public:
  using Callback = std::function<void(const GenerationResult&)>;
  using Done = std::function<void(GenerationResult&&)>;

  // INVALID_ARGUMENT for options out of range.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::shared_ptr<const model::LanguageModel> model,
      const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // One result a request, in the order of the requests. `adapter` null = the
  // base. Spans carry the version last given to SetPolicy, 0 before; a caller
  // that gives an adapter of another version knows it. `callback`, where set,
  // sees each result once as soon as its sample is finished. Once `stop` is
  // requested, unfinished samples end as kCancelled with what they have, before
  // the next pass. A failed sample does not disturb others. INVALID_ARGUMENT
  // for sampling options out of range, an adapter that does not fit or a trunk
  // that is not one (a layer out of range, above the adapter's first, or not
  // the same for all requests), FAILED_PRECONDITION while submitted samples are
  // in hand, RESOURCE_EXHAUSTED or INTERNAL when the arithmetic fails as a
  // whole.
  absl::StatusOr<std::vector<GenerationResult>> Generate(
      const std::vector<GenerationRequest>& requests,
      const SamplingOptions& sampling,
      const model::LoraAdapter* adapter = nullptr, std::stop_token stop = {},
      const Callback& callback = nullptr);

  // Takes a sample into hand; `done` sees its result once, during Submit, Step
  // or Cancel. Its sampling options must be set. INVALID_ARGUMENT as Generate.
  absl::Status Submit(GenerationRequest request, Done done);

  // One forward pass over the samples in hand: every running one gets a token.
  // False when none is left. RESOURCE_EXHAUSTED or INTERNAL when the arithmetic
  // fails as a whole; every sample in hand then ends as failed with it.
  absl::StatusOr<bool> Step();

  // Ends a sample in hand, or all of them, as kCancelled with what it has.
  void Cancel(std::string_view id);
  void CancelAll();

  // Puts other weights in force from the next pass of Step on: another model of
  // the same configuration (null = the present one) and an adapter (null =
  // none). Running samples go on; their cache stays as the earlier weights left
  // it, and each token's span tells the version it was drawn from. Samples
  // without a token yet get what they would get had they come after it.
  // INVALID_ARGUMENT for a model or adapter of another shape; nothing changes
  // then.
  absl::Status SetPolicy(std::shared_ptr<const model::LanguageModel> model,
                         std::shared_ptr<const model::LoraAdapter> adapter,
                         PolicyVersion version);

  // Submitted samples that wait for a place, and that run.
  int64_t waiting() const;
  int64_t running() const;

  // The most tokens that a sample with a prompt of so many can be given, as
  // context and cache allow; 0 = it cannot run at all. May be called from any
  // thread while no call of SetPolicy runs.
  int64_t MostNewTokens(int64_t prompt_tokens) const;

  // Log-probs of given tokens at temperature 1, in the order of the requests;
  // equal prefixes [0, first_scored) are computed once. With trunks only the
  // layers from theirs on are run. The logits of at most 128 positions exist at
  // a time. CANCELLED once `stop` is requested, else errors as Generate.
  absl::StatusOr<std::vector<ScoreResult>> LogProbs(
      const std::vector<ScoreRequest>& requests,
      const model::LoraAdapter* adapter = nullptr, std::stop_token stop = {});

  // Whether an otherwise empty cache holds what LogProbs needs for a sequence
  // of so many tokens with first_scored 1. From any thread, as MostNewTokens.
  bool CanScore(int64_t tokens) const;

  const EngineStatistics& statistics() const { return statistics_; }
  const model::LanguageModel& model() const { return *model_; }
  // Of the policy in force; null without one.
  const model::LoraAdapter* adapter() const { return adapter_.get(); }

 private:
  Engine(std::shared_ptr<const model::LanguageModel> model,
         const EngineOptions& options);
  absl::Status CheckRequest(const GenerationRequest& request,
                            const SamplingOptions& sampling,
                            int64_t shared_layers) const;
  void NoteCache();

  std::shared_ptr<const model::LanguageModel> model_;
  EngineOptions options_;
  EngineStatistics statistics_;
  std::unique_ptr<EngineState> state_;
  std::unique_ptr<GenerationLoop> loop_;  // Of submitted samples.
  // Of the policy that SetPolicy put in force.
  std::shared_ptr<const model::LoraAdapter> adapter_;
  PolicyVersion version_ = 0;
  int64_t shared_layers_ = 0;
  bool other_adapter_ = false;  // Generate or LogProbs has set another one.
};

}  // namespace mpo::generation
