// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/generation/engine.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/weights/assembler.h"

namespace mpo::rollout_actor {

// A copy of the policy: the frozen base and one verified version of the
// trained weights, an adapter beside the base or a whole second model. It has
// no version until the first is applied; a version that cannot be applied
// leaves the one before in force. `version` is thread-safe, the rest belongs
// to the thread that generates.
class PolicyReplica {
 public:
  static constexpr PolicyVersion kNone = -1;

  // As Engine::Create.
  static absl::StatusOr<std::unique_ptr<PolicyReplica>> Create(
      std::shared_ptr<const model::LanguageModel> base,
      const generation::EngineOptions& options);

  // Largest version worth assembling, in bytes.
  int64_t MaxWeightBytes() const;

  // Puts tensors that are verified in force. Whole weights may go on lying in
  // their memory, so nobody may write to them. INVALID_ARGUMENT: names, shapes
  // or the adapter's configuration do not fit the base;
  // FAILED_PRECONDITION: older than the version in force; DATA_LOSS: a weight
  // that is not finite.
  absl::Status Apply(const weights::Manifest& manifest,
                     const std::vector<tensor::NamedTensor>& tensors);

  // Version in force; kNone before the first.
  PolicyVersion version() const { return version_.load(); }

  // Engine::Generate with the policy, or with the base alone: versions are
  // applied between two calls, never within one, so all tokens of the call's
  // samples are of version(). The spans of the results do not tell it.
  // FAILED_PRECONDITION: no version yet (policy).
  absl::StatusOr<std::vector<generation::GenerationResult>> Generate(
      const std::vector<generation::GenerationRequest>& requests,
      const SamplingOptions& sampling, bool base_model, std::stop_token stop,
      const generation::Engine::Callback& callback = nullptr);

  // Layers below the lowest adapter of the version in force: policy and base
  // share what they give. 0 where there is none or the weights are whole.
  int64_t trunk_layers() const {
    return adapter_ == nullptr ? 0 : adapter_->first_layer();
  }

  // The engine of the frozen base.
  generation::Engine& base() { return *base_; }

 private:
  PolicyReplica(std::unique_ptr<generation::Engine> base,
                std::shared_ptr<const model::LanguageModel> base_model,
                generation::EngineOptions options);

  std::unique_ptr<generation::Engine> base_;
  std::shared_ptr<const model::LanguageModel> base_model_;
  generation::EngineOptions options_;
  std::shared_ptr<const model::LoraAdapter> adapter_;  // Kind "adapter".
  std::unique_ptr<generation::Engine> full_;           // Kind "full".
  std::atomic<PolicyVersion> version_ = kNone;
};

}  // namespace mpo::rollout_actor
