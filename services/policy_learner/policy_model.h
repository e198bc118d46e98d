// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/model/master_weights.h"
#include "mpo/tensor/codec.h"

namespace mpo::policy_learner {

// The policy that is trained beside the reference it is held to: an adapter
// over the base, or a full copy of it. Not thread-safe.
class PolicyModel {
 public:
  // `lora` empty = full weights. `reference` null = the base, which with an
  // adapter is the policy with the adapter off. Base, reference and what the
  // policy runs on get the dtype and device of `placement`; what is trained is
  // float32. INVALID_ARGUMENT when the adapter does not fit the model or the
  // reference has another vocabulary or a shorter context. With `packed` the
  // base of an adapter is LanguageModel::WithPacked where it has at most 2^28
  // weights: faster, for up to twice the memory of its layers.
  static absl::StatusOr<PolicyModel> Create(
      std::shared_ptr<const model::LanguageModel> base,
      const std::optional<model::LoraConfig>& lora, uint64_t seed,
      std::shared_ptr<const model::LanguageModel> reference = nullptr,
      const model::LoadOptions& placement = {}, bool packed = false);

  const model::LanguageModel& reference() const {
    return reference_ ? *reference_ : *base_;
  }
  // The weights that training began with.
  const std::shared_ptr<const model::LanguageModel>& base() const {
    return base_;
  }
  // Whether the reference has weights of its own, and so no layer in common
  // with the policy.
  bool reference_apart() const { return reference_ != nullptr; }
  // The weights the policy runs on, with adapter(), null for full weights.
  const model::LanguageModel& policy() const {
    return full_ ? full_->compute() : *base_;
  }
  const model::LoraAdapter* adapter() const { return adapter_.get(); }
  // Layers [0, trunk_layers()) never change, and are those of the reference
  // too unless that is apart.
  int64_t trunk_layers() const {
    return adapter_ ? adapter_->first_layer() : 0;
  }

  // The policy runs on what the leaves are now. LibTorch's exceptions pass
  // through.
  void Refresh() {
    if (full_) full_->Refresh();
  }

  // Leaves the optimiser updates, with stable names; Refresh after that.
  std::vector<tensor::NamedTensor> Trainable() const;
  // The same weights under the names others know them by (PEFT or Hugging
  // Face), sharing memory: what is published and saved.
  std::vector<tensor::NamedTensor> Weights() const;
  const char* kind() const { return adapter_ ? "adapter" : "full"; }
  // adapter_config.json; empty for full weights.
  std::string adapter_config() const;

  // PEFT files for an adapter, model.safetensors for full weights.
  absl::Status Save(const std::filesystem::path& directory) const;
  // Overwrites the weights in place. INVALID_ARGUMENT for other names, shapes
  // or adapter settings.
  absl::Status Load(const std::filesystem::path& directory);

 private:
  PolicyModel() = default;
  std::shared_ptr<const model::LanguageModel> base_;
  std::shared_ptr<const model::LanguageModel> reference_;
  std::unique_ptr<model::MasterWeights> full_;
  std::shared_ptr<model::LoraAdapter> adapter_;
};

// Copies values into `targets` by name. INVALID_ARGUMENT names `source` and a
// tensor that is missing, unexpected or of another shape.
absl::Status CopyByName(const std::vector<tensor::NamedTensor>& values,
                        const std::vector<tensor::NamedTensor>& targets,
                        const std::string& source);

// Every tensor of a safetensors file.
absl::StatusOr<std::vector<tensor::NamedTensor>> ReadSafetensors(
    const std::filesystem::path& path);

}  // namespace mpo::policy_learner
