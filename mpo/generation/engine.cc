// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/engine.h"

#include <torch/torch.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/generation/engine_state.h"
#include "mpo/generation/generation_loop.h"
#include "mpo/generation/sampler.h"
#include "mpo/generation/scoring_loop.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::generation {
namespace {

absl::Status CheckRange(const char* name, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("engine options: ", name,
                                                 ": expected ", low, " to ",
                                                 high, ", found ", value));
}

// `first_layer`: lowest layer with an adapter.
absl::Status CheckTrunkLayer(int64_t layer, int64_t first_layer,
                             const std::string& id) {
  if (layer >= 1 && layer <= first_layer) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("'", id, "': trunk of layer ", layer, ", expected 1 to ",
                   first_layer, ", the lowest layer that is not shared"));
}

// Highest layer whose inputs policy and base share.
int64_t SharedLayers(const model::LanguageModel& model,
                     const model::LoraAdapter* adapter) {
  const int64_t last = model.config().layers - 1;
  return adapter == nullptr ? last : std::min(last, adapter->first_layer());
}

absl::Status CheckTrunks(const std::vector<ScoreRequest>& requests,
                         int64_t shared_layers, int64_t hidden) {
  for (const ScoreRequest& request : requests) {
    const Trunk* trunk = request.trunk.get();
    if ((trunk == nullptr) != (requests[0].trunk == nullptr) ||
        (trunk != nullptr && trunk->layer != requests[0].trunk->layer)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", request.id,
                       "': expected a trunk of the same layer "
                       "for every sequence or none"));
    }
    if (trunk == nullptr) continue;
    MPO_RETURN_IF_ERROR(
        CheckTrunkLayer(trunk->layer, shared_layers, request.id));
    const auto rows = static_cast<int64_t>(trunk->inputs.size()) / hidden;
    const int64_t expected = static_cast<int64_t>(request.tokens.size()) - 1;
    if (rows != expected) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", request.id, "': trunk of ", rows,
                       " tokens, expected ", expected));
    }
  }
  return absl::OkStatus();
}

// Prompt tokens of one pass where the options leave it open.
int PassTokens(const EngineOptions& options, const model::ModelConfig& c) {
  constexpr int64_t kLeast = 512, kMost = 2048;
  // Parameters times tokens of a pass that nobody notices.
  constexpr int64_t kWork = int64_t{1} << 34;
  if (options.interleave_prefill) return kLeast;
  return static_cast<int>(
      std::clamp(kWork / std::max<int64_t>(1, c.parameters()), kLeast, kMost));
}

}  // namespace

Engine::Engine(std::shared_ptr<const model::LanguageModel> model,
               const EngineOptions& options)
    : model_(std::move(model)), options_(options) {}

Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::shared_ptr<const model::LanguageModel> model,
    const EngineOptions& options) {
  MPO_RETURN_IF_ERROR(CheckRange("max_rows", options.max_rows, 1, 4096));
  EngineOptions chosen = options;
  if (chosen.prefill_tokens == 0)
    chosen.prefill_tokens = PassTokens(options, model->config());
  MPO_RETURN_IF_ERROR(
      CheckRange("prefill_tokens", chosen.prefill_tokens, 16, 65536));
  std::unique_ptr<Engine> engine(new Engine(std::move(model), chosen));
  MPO_RETURN_IF_ERROR(tensor::CatchTorch("create engine", [&] {
    engine->state_ =
        std::make_unique<EngineState>(engine->model_, engine->options_);
    engine->loop_ = std::make_unique<GenerationLoop>(
        engine->options_, engine->model_->config(), *engine->state_,
        engine->statistics_);
    engine->shared_layers_ = SharedLayers(*engine->model_, nullptr);
  }));
  return engine;
}

absl::Status Engine::CheckRequest(const GenerationRequest& request,
                                  const SamplingOptions& sampling,
                                  int64_t shared_layers) const {
  MPO_RETURN_IF_ERROR(Validate(sampling));
  if (request.top_logprobs < 0 || request.top_logprobs > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", request.id, "': top_logprobs: expected 0 to 100, ",
                     "found ", request.top_logprobs));
  }
  if (request.keep_trunk == 0) return absl::OkStatus();
  return CheckTrunkLayer(request.keep_trunk, shared_layers, request.id);
}

void Engine::NoteCache() {
  const model::ModelConfig& c = model_->config();
  statistics_.kv_bytes_per_token =
      static_cast<uint64_t>(2 * c.layers * c.kv_heads * c.head_dim) *
      model_->embedding().element_size();
  statistics_.kv_page_bytes = state_->forward.page_bytes();
  statistics_.kv_allocated_bytes =
      state_->cache.allocated_bytes() + state_->forward.bytes_elsewhere();
  const uint64_t elsewhere =
      state_->forward.bytes_elsewhere() / state_->forward.page_bytes();
  statistics_.kv_capacity_tokens =
      kPageTokens * (elsewhere > 0 ? static_cast<int64_t>(elsewhere)
                                   : state_->cache.created());
  statistics_.kv_cache_bytes = state_->forward.page_bytes() *
                               static_cast<uint64_t>(state_->cache.peak());
}

absl::StatusOr<std::vector<GenerationResult>> Engine::Generate(
    const std::vector<GenerationRequest>& requests,
    const SamplingOptions& sampling, const model::LoraAdapter* adapter,
    std::stop_token stop, const Callback& callback) {
  if (!loop_->idle()) {
    return absl::FailedPreconditionError(
        "engine: submitted samples are in hand");
  }
  if (adapter != nullptr)
    MPO_RETURN_IF_ERROR(model::CheckFits(*adapter, model_->config()));
  const int64_t shared = SharedLayers(*model_, adapter);
  MPO_RETURN_IF_ERROR(Validate(sampling));
  for (const GenerationRequest& request : requests) {
    MPO_RETURN_IF_ERROR(
        CheckRequest(request, request.sampling.value_or(sampling), shared));
    if (request.keep_trunk != requests.front().keep_trunk) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", request.id, "': trunk of layer ", request.keep_trunk,
          ", expected ", requests.front().keep_trunk,
          " as for the first sample of the call"));
    }
  }
  statistics_ = {};
  std::vector<GenerationResult> results(requests.size());
  const absl::Status status = tensor::CatchTorch("generate", [&] {
    state_->cache.ResetPeak();
    state_->forward.SetAdapter(adapter);
    other_adapter_ = true;
    GenerationLoop loop(options_, model_->config(), *state_, statistics_);
    loop.ChangePolicy(version_);
    for (size_t i = 0; i < requests.size(); ++i) {
      GenerationRequest request = requests[i];
      if (!request.sampling.has_value()) request.sampling = sampling;
      loop.Add(std::move(request), [&, i](GenerationResult&& result) {
        results[i] = std::move(result);
        if (callback) callback(results[i]);
      });
    }
    while (!loop.idle()) {
      if (stop.stop_requested()) {
        loop.CancelAll();
        break;
      }
      loop.Step();
    }
  });
  NoteCache();
  if (!status.ok()) return status;
  return results;
}

absl::Status Engine::Submit(GenerationRequest request, Done done) {
  if (!request.sampling.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", request.id, "': its sampling options are not set"));
  }
  MPO_RETURN_IF_ERROR(CheckRequest(request, *request.sampling, shared_layers_));
  if (!loop_->idle() && request.keep_trunk != loop_->keep_trunk()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", request.id, "': trunk of layer ", request.keep_trunk,
        ", expected ", loop_->keep_trunk(), " as for the samples in hand"));
  }
  loop_->Add(std::move(request), std::move(done));
  return absl::OkStatus();
}

absl::StatusOr<bool> Engine::Step() {
  bool left = false;
  const absl::Status status = tensor::CatchTorch("generate", [&] {
    if (other_adapter_) state_->forward.SetAdapter(adapter_.get());
    other_adapter_ = false;
    left = loop_->Step();
  });
  NoteCache();
  if (status.ok()) return left;
  loop_->FailAll(status);
  return status;
}

void Engine::Cancel(std::string_view id) { loop_->Cancel(id); }
void Engine::CancelAll() { loop_->CancelAll(); }
int64_t Engine::waiting() const { return loop_->waiting(); }
int64_t Engine::running() const { return loop_->running(); }

int64_t Engine::MostNewTokens(int64_t prompt_tokens) const {
  const int64_t context =
      std::max<int64_t>(0, model_->config().context - prompt_tokens);
  const int64_t pages =
      EngineState::PageLimit(state_->forward.page_bytes(), options_);
  if (pages == 0) return context;
  // The prompt has its pages; of these a sample shares those that are full.
  // The last token drawn needs no place.
  const int64_t own =
      pages - PagesFor(prompt_tokens) + prompt_tokens / kPageTokens;
  return std::clamp<int64_t>(own * kPageTokens - prompt_tokens + 1, 0, context);
}

bool Engine::CanScore(int64_t tokens) const {
  const int64_t pages =
      EngineState::PageLimit(state_->forward.page_bytes(), options_);
  return pages == 0 || PagesFor(tokens) + 1 <= pages;
}

absl::Status Engine::SetPolicy(
    std::shared_ptr<const model::LanguageModel> model,
    std::shared_ptr<const model::LoraAdapter> adapter, PolicyVersion version) {
  if (model == nullptr) model = model_;
  if (!(model->config() == model_->config())) {
    return absl::InvalidArgumentError(
        "engine: the new weights have another configuration");
  }
  if (model->dtype() != model_->dtype() ||
      model->device() != model_->device()) {
    return absl::InvalidArgumentError(
        "engine: the new weights have another dtype or device");
  }
  if (adapter != nullptr)
    MPO_RETURN_IF_ERROR(model::CheckFits(*adapter, model->config()));
  return tensor::CatchTorch("change the policy", [&] {
    state_->forward.SetModel(model);
    state_->forward.SetAdapter(adapter.get());
    other_adapter_ = false;
    model_ = std::move(model);
    adapter_ = std::move(adapter);
    shared_layers_ = SharedLayers(*model_, adapter_.get());
    version_ = version;
    loop_->ChangePolicy(version);
  });
}

absl::StatusOr<std::vector<ScoreResult>> Engine::LogProbs(
    const std::vector<ScoreRequest>& requests,
    const model::LoraAdapter* adapter, std::stop_token stop) {
  if (adapter != nullptr)
    MPO_RETURN_IF_ERROR(model::CheckFits(*adapter, model_->config()));
  MPO_RETURN_IF_ERROR(CheckTrunks(requests, SharedLayers(*model_, adapter),
                                  model_->config().hidden_size));
  return tensor::CatchTorch("score", [&] {
    state_->forward.SetAdapter(adapter);
    other_adapter_ = true;
    return ScoringLoop(requests, options_, model_->config(), *state_,
                       std::move(stop))
        .Run();
  });
}

}  // namespace mpo::generation
