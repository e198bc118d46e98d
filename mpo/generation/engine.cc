// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/engine.h"

#include <torch/torch.h>

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
  statistics_ = {};
  GenerationLoop::Settings settings{
      .sampling = sampling,
      .max_rows = options_.max_rows,
      .prefill_tokens = options_.prefill_tokens,
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
  return tensor::CatchTorch("score", [&] {
    state_->forward.SetAdapter(adapter);
    return ScoringLoop(requests, options_, model_->config(), *state_,
                       std::move(stop))
        .Run();
  });
}

}  // namespace mpo::generation
