// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/policy_replica.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/finite.h"

namespace mpo::rollout_actor {

absl::StatusOr<std::unique_ptr<PolicyReplica>> PolicyReplica::Create(
    std::shared_ptr<const model::LanguageModel> base,
    const generation::EngineOptions& options) {
  MPO_ASSIGN_OR_RETURN(auto engine, generation::Engine::Create(base, options));
  return std::unique_ptr<PolicyReplica>(
      new PolicyReplica(std::move(engine), std::move(base), options));
}

PolicyReplica::PolicyReplica(
    std::unique_ptr<generation::Engine> base,
    std::shared_ptr<const model::LanguageModel> base_model,
    generation::EngineOptions options)
    : base_(std::move(base)),
      base_model_(std::move(base_model)),
      options_(std::move(options)) {}

int64_t PolicyReplica::MaxWeightBytes() const {
  constexpr int64_t kSlack = int64_t{64} << 20;
  return 8 * base_model_->config().parameters() + kSlack;
}

absl::Status PolicyReplica::Apply(
    const weights::Manifest& manifest,
    const std::vector<tensor::NamedTensor>& tensors) {
  if (manifest.version < version()) {
    return absl::FailedPreconditionError(
        absl::StrCat("weights of version ", manifest.version,
                     " are older than version ", version(), " in force"));
  }
  // The formats allow NaN and infinities; a policy with one draws nothing.
  if (const absl::Status finite = tensor::CheckFinite(tensors); !finite.ok()) {
    return absl::Status(finite.code(),
                        absl::StrCat("weights of version ", manifest.version,
                                     ": ", std::string(finite.message())));
  }
  std::shared_ptr<const model::LoraAdapter> adapter;
  std::unique_ptr<generation::Engine> full;
  if (manifest.kind == "adapter") {
    MPO_ASSIGN_OR_RETURN(
        const model::LoraConfig config,
        model::ParsePeftJson(
            manifest.adapter_config, base_model_->config(),
            absl::StrCat("manifest of version ", manifest.version)));
    MPO_ASSIGN_OR_RETURN(adapter, model::LoraAdapter::FromTensors(
                                      config, base_model_->config(), tensors,
                                      model::LanguageModel::Memory::kShared));
  } else if (manifest.kind == "full") {
    MPO_ASSIGN_OR_RETURN(auto model,
                         model::LanguageModel::FromTensors(
                             base_model_->config(), tensors,
                             {base_model_->dtype(), base_model_->device()},
                             model::LanguageModel::Memory::kShared));
    MPO_ASSIGN_OR_RETURN(
        full, generation::Engine::Create(std::move(model), options_));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("weights of version ", manifest.version, " have kind \"",
                     manifest.kind, "\", expected adapter or full"));
  }
  adapter_ = std::move(adapter);
  full_ = std::move(full);
  version_ = manifest.version;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<generation::GenerationResult>>
PolicyReplica::Generate(
    const std::vector<generation::GenerationRequest>& requests,
    const SamplingOptions& sampling, bool base_model, std::stop_token stop,
    const generation::Engine::Callback& callback) {
  if (base_model) {
    return base_->Generate(requests, sampling, nullptr, stop, callback);
  }
  if (version() == kNone) {
    return absl::FailedPreconditionError("no policy weights yet");
  }
  generation::Engine& engine = full_ != nullptr ? *full_ : *base_;
  return engine.Generate(requests, sampling, adapter_.get(), stop, callback);
}

}  // namespace mpo::rollout_actor
