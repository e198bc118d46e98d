// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora_config.h"
#include "mpo/model/model_config.h"
#include "mpo/tensor/codec.h"

namespace mpo::model {

// The linear layers of a decoder layer that may carry an adapter.
enum class Module { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr int kModules = 7;

// y += scale * (x A^T) B^T on one linear layer.
struct LoraWeights {
  at::Tensor a;  // [rank, in]; undefined where the module has no adapter.
  at::Tensor b;  // [out, rank]
};

// A low-rank update of a LanguageModel; float32 leaves that require grad. The
// reference policy is the base without it. Thread-safe to read; the owner
// alone may write the tensors (an optimiser, under no_grad).
class LoraAdapter {
 public:
  // A ~ N(0, 1 / in_features), B = 0: the adapter starts as the identity. The
  // same tensors for the same seed on every machine. INVALID_ARGUMENT for a
  // bad rank, alpha, number of layers or module, and for a dropout: training
  // with one is not supported.
  static absl::StatusOr<std::shared_ptr<LoraAdapter>> Create(
      const LoraConfig& config, const ModelConfig& model, uint64_t seed);

  // From tensors named as Parameters() names them, in any order. With kShared
  // the adapter lies on the memory of those that are float32 on the CPU and
  // contiguous, which must not change as long as it lives; the rest is copied.
  // INVALID_ARGUMENT for a missing or unexpected name or a wrong shape.
  static absl::StatusOr<std::shared_ptr<LoraAdapter>> FromTensors(
      const LoraConfig& config, const ModelConfig& model,
      const std::vector<tensor::NamedTensor>& tensors,
      LanguageModel::Memory memory = LanguageModel::Memory::kCopied);

  // Reads a PEFT directory (adapter_config.json, adapter_model.safetensors).
  // The copy of the base's head that PEFT puts beside an adapter of lm_head is
  // checked for its shape and not used. NOT_FOUND for a missing file,
  // INVALID_ARGUMENT as above.
  static absl::StatusOr<std::shared_ptr<LoraAdapter>> Load(
      const std::filesystem::path& directory, const ModelConfig& model);

  // Writes a directory that Load and Python's PEFT read.
  absl::Status Save(const std::filesystem::path& directory) const;

  const LoraConfig& config() const { return config_; }
  const ModelConfig& model_config() const { return model_; }
  double scale() const;
  // Lowest layer with an adapter: layers below it are the shared trunk. The
  // number of layers where only the head has one.
  int64_t first_layer() const { return first_layer_; }
  // Weights of a module; both undefined below first_layer() and where the
  // module is not a target.
  const LoraWeights& weights(int64_t layer, Module module) const {
    return layers_[layer][static_cast<int>(module)];
  }

  // Weights of lm_head, [rank, hidden] and [vocabulary, rank]; undefined where
  // it is not a target.
  const LoraWeights& head() const { return head_; }

  // Every tensor under its PEFT name
  // ("base_model.model.model.layers.3.mlp.up_proj.lora_A.weight") in a stable
  // order: by layer, by module as in Module, the head last, A before B. Shares
  // memory.
  std::vector<tensor::NamedTensor> Parameters() const;

  // Digest of Parameters() (see tensor::Digest).
  absl::StatusOr<std::string> Digest() const {
    return tensor::Digest(Parameters());
  }

  // A deep copy: a snapshot that training does not touch.
  absl::StatusOr<std::shared_ptr<LoraAdapter>> Clone(
      const at::Device& device = at::kCPU) const;

 private:
  LoraAdapter(LoraConfig config, ModelConfig model);
  // As Parameters(), to be replaced.
  std::vector<std::pair<std::string, at::Tensor*>> Slots();

  LoraConfig config_;
  ModelConfig model_;
  int64_t first_layer_ = 0;
  std::vector<std::array<LoraWeights, kModules>> layers_;
  LoraWeights head_;
};

// A copy of the base with the adapter added into its weights: W + scale B A,
// summed in float32. A tied head that the adapter changes becomes a matrix of
// its own (tie_embeddings false): the embedding stays as it was.
// INVALID_ARGUMENT when the adapter was made for another shape.
absl::StatusOr<std::shared_ptr<const LanguageModel>> Merge(
    const LanguageModel& base, const LoraAdapter& adapter);

// The way back, W - scale B A: the base up to rounding in the model's dtype. A
// head that Merge untied stays apart.
absl::StatusOr<std::shared_ptr<const LanguageModel>> Unmerge(
    const LanguageModel& merged, const LoraAdapter& adapter);

// OK when the adapter fits the model; INVALID_ARGUMENT says what differs.
absl::Status CheckFits(const LoraAdapter& adapter, const ModelConfig& model);

}  // namespace mpo::model
