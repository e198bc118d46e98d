// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/fused_ops.h"
#include "mpo/model/model_config.h"
#include "mpo/model/weight_files.h"
#include "mpo/tensor/codec.h"

namespace mpo::model {

// Weights of one decoder layer, laid out so that one product serves several
// projections. Matrices are [out, in] as in Hugging Face files.
struct LayerWeights {
  at::Tensor input_norm;  // [hidden]
  at::Tensor qkv;         // [q + 2 kv, hidden]: rows of q, then k, then v.
  at::Tensor qkv_bias;    // [q + 2 kv]; undefined where the model has none.
  at::Tensor q_norm;      // [head_dim], for every head of q; undefined where
  at::Tensor k_norm;      // the model has none (ModelConfig::qk_norm). As k.
  at::Tensor o;           // [hidden, q]
  at::Tensor post_norm;   // [hidden]
  at::Tensor gate_up;     // [2 intermediate, hidden]: rows of gate, then up.
  at::Tensor down;        // [hidden, intermediate]
  struct {
    PackedWeight qkv, o, gate_up, down;
  } packed;
};

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  // kFloat, kBFloat16 or kHalf.
  at::Device device = at::kCPU;
};

// The weights of a decoder. Immutable and thread-safe through the const
// interface, so policy, reference and judge share one copy; adapters lie
// beside it (LoraAdapter).
class LanguageModel {
 public:
  // Reads a Hugging Face directory (config.json, model.safetensors or the
  // shards of model.safetensors.index.json). NOT_FOUND for a missing file,
  // INVALID_ARGUMENT for a configuration or file that is not understood, a
  // missing or unexpected tensor, a shape that disagrees with the
  // configuration (file, tensor, expected, found), RESOURCE_EXHAUSTED when
  // memory is short.
  static absl::StatusOr<std::shared_ptr<const LanguageModel>> Load(
      const std::filesystem::path& directory, const LoadOptions& options = {});

  // From tensors named as in Hugging Face files. With kShared the model lies on
  // their memory wherever dtype and device are those of `options` and the parts
  // of a fused matrix follow each other in one storage; the rest is copied. The
  // tensors must not change as long as the model lives then. INVALID_ARGUMENT
  // as Load.
  enum class Memory { kCopied, kShared };
  static absl::StatusOr<std::shared_ptr<const LanguageModel>> FromTensors(
      const ModelConfig& config,
      const std::vector<tensor::NamedTensor>& tensors,
      const LoadOptions& options = {}, Memory memory = Memory::kCopied);

  // Matrices N(0, initializer_range), norms 1, biases 0; the same weights for
  // the same seed on every machine. INVALID_ARGUMENT for a bad configuration.
  static absl::StatusOr<std::shared_ptr<const LanguageModel>> Random(
      const ModelConfig& config, uint64_t seed,
      const LoadOptions& options = {});

  // Writes config.json, generation_config.json and the weights (see
  // WriteWeightFiles), which Load and transformers read back; other files of
  // the directory stay.
  absl::Status Save(const std::filesystem::path& directory,
                    const WeightFileOptions& options = {}) const;

  // A deep copy in float32 whose tensors are leaves that require grad:
  // full-weight training. Update them in place through Parameters() under
  // no_grad.
  absl::StatusOr<std::shared_ptr<LanguageModel>> TrainableCopy(
      const at::Device& device = at::kCPU) const;

  // The same weights in another dtype; gradients of the result reach the
  // weights of this. LibTorch's exceptions pass through.
  LanguageModel Cast(at::ScalarType dtype) const;

  // The same weights with copies of the layers' matrices in the order in which
  // products read them, where that is of use (tensor::Packed): for training an
  // adapter. Those of layers from `first_trained` on serve gradients too. The
  // weights must not change afterwards. LibTorch's exceptions pass through.
  LanguageModel WithPacked(int64_t first_trained) const;

  const ModelConfig& config() const { return config_; }
  const at::Tensor& embedding() const {
    return embedding_;
  }                                                 // [vocabulary, hidden]
  const at::Tensor& head() const { return head_; }  // [vocabulary, hidden]
  const at::Tensor& final_norm() const { return final_norm_; }  // [hidden]
  const LayerWeights& layer(int64_t index) const { return layers_.at(index); }
  at::ScalarType dtype() const { return embedding_.scalar_type(); }
  at::Device device() const { return embedding_.device(); }

  // Every weight tensor once, in the fused layout and a stable order; the
  // tensors share memory with the model.
  std::vector<tensor::NamedTensor> Parameters() const;

  // Every weight under its Hugging Face name in a stable order; views that
  // share memory with the model. A tied head is left out.
  std::vector<tensor::NamedTensor> StateDict() const;

  // Digest of StateDict (see tensor::Digest).
  absl::StatusOr<std::string> Digest() const {
    return tensor::Digest(StateDict());
  }

 private:
  explicit LanguageModel(ModelConfig config) : config_(std::move(config)) {}
  void Allocate(const LoadOptions& options);
  // Every weight tensor once, under its name in the fused layout.
  std::vector<std::pair<std::string, at::Tensor*>> Slots();

  ModelConfig config_;
  at::Tensor embedding_;
  at::Tensor head_;
  at::Tensor final_norm_;
  std::vector<LayerWeights> layers_;
};

}  // namespace mpo::model
