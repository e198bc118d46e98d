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

}  // namespace

Engine::Engine(std::shared_ptr<const model::LanguageModel> model,
               const EngineOptions& options)
    : model_(std::move(model)), options_(options) {}

Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::shared_ptr<const model::LanguageModel> model,
    const EngineOptions& options) {
  MPO_RETURN_IF_ERROR(CheckRange("max_rows", options.max_rows, 1, 4096));
  MPO_RETURN_IF_ERROR(
      CheckRange("prefill_tokens", options.prefill_tokens, 16, 65536));
  if (model->dtype() != at::kFloat || !model->device().is_cpu()) {
    return absl::InvalidArgumentError(
        "engine: expected a float32 model on the CPU");
  }
  std::unique_ptr<Engine> engine(new Engine(std::move(model), options));
  MPO_RETURN_IF_ERROR(tensor::CatchTorch("create engine", [&] {
    engine->state_ =
        std::make_unique<EngineState>(engine->model_, engine->options_);
  }));
  return engine;
}

absl::StatusOr<std::vector<GenerationResult>> Engine::Generate(
    const std::vector<GenerationRequest>& requests,
    const SamplingOptions& sampling, const model::LoraAdapter* adapter,
    std::stop_token stop, const Callback& callback) {
  MPO_RETURN_IF_ERROR(Validate(sampling));
  if (adapter != nullptr)
    MPO_RETURN_IF_ERROR(model::CheckFits(*adapter, model_->config()));
  int64_t keep_trunk = 0;
  for (const GenerationRequest& request : requests) {
    if (&request == &requests.front()) keep_trunk = request.keep_trunk;
    if (request.keep_trunk != keep_trunk) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", request.id, "': trunk of layer ", request.keep_trunk,
          ", expected ", keep_trunk, " as for the first sample of the call"));
    }
  }
  if (keep_trunk != 0) {
    MPO_RETURN_IF_ERROR(CheckTrunkLayer(
        keep_trunk, SharedLayers(*model_, adapter), requests.front().id));
  }
  statistics_ = {};
  GenerationLoop::Settings settings{
      .sampling = sampling,
      .max_rows = options_.max_rows,
      .prefill_tokens = options_.prefill_tokens,
      .keep_trunk = keep_trunk,
      .stop_tokens = options_.stop_tokens.value_or(model_->config().eos_tokens),
      .stop = std::move(stop),
      .callback = &callback};
  auto results = tensor::CatchTorch("generate", [&] {
    state_->cache.ResetPeak();
    state_->forward.SetAdapter(adapter);
    return GenerationLoop(requests, std::move(settings), model_->config(),
                          *state_, statistics_)
        .Run();
  });
  statistics_.kv_bytes_per_token = state_->cache.page_bytes() / kPageTokens;
  statistics_.kv_cache_bytes =
      state_->cache.page_bytes() * static_cast<uint64_t>(state_->cache.peak());
  return results;
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
    return ScoringLoop(requests, options_, model_->config(), *state_,
                       std::move(stop))
        .Run();
  });
}

}  // namespace mpo::generation
