// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/language_model.h"

#include <torch/torch.h>

#include <functional>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/counter_random.h"
#include "mpo/tensor/products.h"
#include "mpo/tensor/torch_errors.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using tensor::CatchTorch;
using tensor::NamedTensor;

bool Ignorable(const std::string& name, const ModelConfig& config) {
  return absl::EndsWith(name, "rotary_emb.inv_freq") ||
         (config.tie_embeddings && name == "lm_head.weight");
}

// Fills every tensor of the state dict through `read(name, target)` and
// refuses names that nothing asked for.
absl::Status Fill(const LanguageModel& model,
                  const std::set<std::string>& available,
                  const std::function<absl::Status(const std::string&,
                                                   const at::Tensor&)>& read,
                  const std::string& source) {
  std::set<std::string> unused = available;
  for (const NamedTensor& target : model.StateDict()) {
    if (unused.erase(target.name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": tensor '", target.name, "' is missing"));
    }
    MPO_RETURN_IF_ERROR(read(target.name, target.tensor));
  }
  for (const std::string& name : unused) {
    if (!Ignorable(name, model.config())) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": tensor '", name,
                       "' is not expected by the configuration"));
    }
  }
  return absl::OkStatus();
}

// Rows of a fused matrix that have a name of their own.
struct Part {
  std::string name;
  int64_t rows;  // -1 = all.
};

std::vector<Part> PartsOf(const std::string& name, const ModelConfig& c) {
  const auto renamed = [&](const std::string& fused, const std::string& part) {
    std::string own = name;
    return own.replace(own.find(fused), fused.size(), part);
  };
  if (absl::StrContains(name, "qkv_proj")) {
    return {{renamed("qkv_proj", "q_proj"), c.q_size()},
            {renamed("qkv_proj", "k_proj"), c.kv_size()},
            {renamed("qkv_proj", "v_proj"), c.kv_size()}};
  }
  if (absl::StrContains(name, "gate_up_proj")) {
    return {{renamed("gate_up_proj", "gate_proj"), c.intermediate_size},
            {renamed("gate_up_proj", "up_proj"), c.intermediate_size}};
  }
  return {{name, -1}};
}

// Whether `parts` lie behind each other as the rows of `whole` would.
bool InOnePiece(const std::vector<at::Tensor>& parts, const at::Tensor& whole) {
  int64_t next = parts[0].storage_offset();
  for (const at::Tensor& part : parts) {
    if (part.scalar_type() != whole.scalar_type() ||
        part.device() != whole.device() || !part.is_contiguous() ||
        !part.is_alias_of(parts[0]) || part.storage_offset() != next) {
      return false;
    }
    next += part.numel();
  }
  return true;
}

}  // namespace

void LanguageModel::Allocate(const LoadOptions& options) {
  const auto kind = at::TensorOptions(options.dtype).device(options.device);
  const ModelConfig& c = config_;
  const int64_t qkv = c.q_size() + 2 * c.kv_size();
  embedding_ = at::empty({c.vocab_size, c.hidden_size}, kind);
  head_ = c.tie_embeddings ? embedding_
                           : at::empty({c.vocab_size, c.hidden_size}, kind);
  final_norm_ = at::empty({c.hidden_size}, kind);
  for (int64_t i = 0; i < c.layers; ++i) {
    LayerWeights layer;
    layer.input_norm = at::empty({c.hidden_size}, kind);
    layer.qkv = at::empty({qkv, c.hidden_size}, kind);
    if (c.qkv_bias()) layer.qkv_bias = at::empty({qkv}, kind);
    if (c.qk_norm()) {
      layer.q_norm = at::empty({c.head_dim}, kind);
      layer.k_norm = at::empty({c.head_dim}, kind);
    }
    layer.o = at::empty({c.hidden_size, c.q_size()}, kind);
    layer.post_norm = at::empty({c.hidden_size}, kind);
    layer.gate_up = at::empty({2 * c.intermediate_size, c.hidden_size}, kind);
    layer.down = at::empty({c.hidden_size, c.intermediate_size}, kind);
    layers_.push_back(std::move(layer));
  }
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> LanguageModel::Load(
    const std::filesystem::path& directory, const LoadOptions& options) {
  MPO_ASSIGN_OR_RETURN(ModelConfig config, LoadModelConfig(directory));
  MPO_ASSIGN_OR_RETURN(const auto files, OpenWeightFiles(directory));
  std::shared_ptr<LanguageModel> model(new LanguageModel(std::move(config)));
  MPO_RETURN_IF_ERROR(
      CatchTorch("allocate the weights", [&] { model->Allocate(options); }));
  std::set<std::string> names;
  for (const auto& [name, file] : files) names.insert(name);
  MPO_RETURN_IF_ERROR(Fill(
      *model, names,
      [&](const std::string& name, const at::Tensor& target) {
        return files.at(name)->Read(name, target);
      },
      directory.string()));
  return std::shared_ptr<const LanguageModel>(std::move(model));
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> LanguageModel::FromTensors(
    const ModelConfig& config, const std::vector<NamedTensor>& tensors,
    const LoadOptions& options, Memory memory) {
  MPO_RETURN_IF_ERROR(Validate(config));
  std::shared_ptr<LanguageModel> model(new LanguageModel(config));
  MPO_RETURN_IF_ERROR(
      CatchTorch("allocate the weights", [&] { model->Allocate(options); }));
  std::set<std::string> names;
  std::map<std::string, at::Tensor> sources;
  for (const NamedTensor& named : tensors) {
    names.insert(named.name);
    sources[named.name] = named.tensor;
  }
  auto check = [&](const std::string& name,
                   const at::Tensor& target) -> absl::Status {
    const at::Tensor& source = sources.at(name);
    if (source.sizes() == target.sizes()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("tensor '", name, "': expected shape ",
                     tensor::ShapeString(target.sizes()), ", found ",
                     tensor::ShapeString(source.sizes())));
  };
  MPO_RETURN_IF_ERROR(Fill(*model, names, check, "weights"));
  MPO_RETURN_IF_ERROR(CatchTorch("copy weights", [&] {
    at::NoGradGuard no_grad;
    for (auto& [name, slot] : model->Slots()) {
      std::vector<at::Tensor> parts;
      for (const Part& part : PartsOf(name, config)) {
        parts.push_back(sources.at(part.name));
      }
      if (memory == Memory::kShared && InOnePiece(parts, *slot)) {
        *slot = parts[0].as_strided(slot->sizes(), slot->strides(),
                                    parts[0].storage_offset());
        continue;
      }
      int64_t row = 0;
      for (const at::Tensor& part : parts) {
        slot->narrow(0, row, part.size(0)).copy_(part);
        row += part.size(0);
      }
    }
    if (config.tie_embeddings) model->head_ = model->embedding_;
  }));
  return std::shared_ptr<const LanguageModel>(std::move(model));
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> LanguageModel::Random(
    const ModelConfig& config, uint64_t seed, const LoadOptions& options) {
  MPO_RETURN_IF_ERROR(Validate(config));
  std::shared_ptr<LanguageModel> model(new LanguageModel(config));
  MPO_RETURN_IF_ERROR(CatchTorch("make random weights", [&] {
    at::NoGradGuard no_grad;
    model->Allocate(options);
    uint64_t stream = 0;
    for (NamedTensor& named : model->StateDict()) {
      if (absl::EndsWith(named.name, "norm.weight")) {
        named.tensor.fill_(1.0);
      } else if (absl::EndsWith(named.name, ".bias")) {
        named.tensor.zero_();
      } else {
        named.tensor.copy_(tensor::NormalTensor(
            named.tensor.sizes(), config.initializer_range, seed, stream));
      }
      ++stream;
    }
  }));
  return std::shared_ptr<const LanguageModel>(std::move(model));
}

absl::StatusOr<std::shared_ptr<LanguageModel>> LanguageModel::TrainableCopy(
    const at::Device& device) const {
  std::shared_ptr<LanguageModel> copy(new LanguageModel(config_));
  MPO_RETURN_IF_ERROR(CatchTorch("copy the weights", [&] {
    at::NoGradGuard no_grad;
    copy->Allocate({.dtype = at::kFloat, .device = device});
    const auto sources = Parameters();
    auto targets = copy->Parameters();
    for (size_t i = 0; i < sources.size(); ++i) {
      targets[i].tensor.copy_(sources[i].tensor);
      targets[i].tensor.set_requires_grad(true);
    }
  }));
  return copy;
}

LanguageModel LanguageModel::Cast(at::ScalarType dtype) const {
  at::AutoGradMode with_grad(true);
  LanguageModel cast = *this;
  for (const auto& [name, slot] : cast.Slots()) *slot = slot->to(dtype);
  for (LayerWeights& layer : cast.layers_) layer.packed = {};
  if (config_.tie_embeddings) cast.head_ = cast.embedding_;
  return cast;
}

LanguageModel LanguageModel::WithPacked(int64_t first_trained) const {
  at::NoGradGuard no_grad;
  LanguageModel model = *this;
  for (int64_t i = 0; i < config_.layers; ++i) {
    const auto packed = [&](const at::Tensor& weight) {
      return PackedWeight{
          tensor::Packed(weight.t()),
          i < first_trained ? at::Tensor() : tensor::Packed(weight)};
    };
    LayerWeights& layer = model.layers_[i];
    layer.packed = {packed(layer.qkv), packed(layer.o), packed(layer.gate_up),
                    packed(layer.down)};
  }
  return model;
}

std::vector<std::pair<std::string, at::Tensor*>> LanguageModel::Slots() {
  std::vector<std::pair<std::string, at::Tensor*>> all = {
      {"model.embed_tokens.weight", &embedding_}};
  for (int64_t i = 0; i < config_.layers; ++i) {
    LayerWeights& layer = layers_[i];
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    const auto add = [&](const char* name, at::Tensor& tensor) {
      if (tensor.defined()) all.emplace_back(prefix + name, &tensor);
    };
    add("input_layernorm.weight", layer.input_norm);
    add("self_attn.qkv_proj.weight", layer.qkv);
    add("self_attn.qkv_proj.bias", layer.qkv_bias);
    add("self_attn.q_norm.weight", layer.q_norm);
    add("self_attn.k_norm.weight", layer.k_norm);
    add("self_attn.o_proj.weight", layer.o);
    add("post_attention_layernorm.weight", layer.post_norm);
    add("mlp.gate_up_proj.weight", layer.gate_up);
    add("mlp.down_proj.weight", layer.down);
  }
  all.emplace_back("model.norm.weight", &final_norm_);
  if (!config_.tie_embeddings) all.emplace_back("lm_head.weight", &head_);
  return all;
}

std::vector<NamedTensor> LanguageModel::Parameters() const {
  std::vector<NamedTensor> all;
  // The tensors are handles; nothing is changed through them here.
  for (const auto& [name, slot] : const_cast<LanguageModel*>(this)->Slots()) {
    all.push_back({name, *slot});
  }
  return all;
}

std::vector<NamedTensor> LanguageModel::StateDict() const {
  std::vector<NamedTensor> all;
  for (const NamedTensor& named : Parameters()) {
    const at::Tensor tensor = named.tensor.detach();
    int64_t row = 0;
    for (const Part& part : PartsOf(named.name, config_)) {
      const int64_t rows = part.rows < 0 ? tensor.size(0) : part.rows;
      all.push_back({part.name, rows == tensor.size(0)
                                    ? tensor
                                    : tensor.narrow(0, row, rows)});
      row += rows;
    }
  }
  return all;
}

absl::Status LanguageModel::Save(const std::filesystem::path& directory,
                                 const WeightFileOptions& options) const {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat(directory.string(), ": ", error.message()));
  }
  MPO_RETURN_IF_ERROR(WriteWeightFiles(directory, StateDict(), options));
  nlohmann::json generation = nlohmann::json::object();
  if (!config_.eos_tokens.empty())
    generation["eos_token_id"] = config_.eos_tokens;
  if (config_.bos_token >= 0) generation["bos_token_id"] = config_.bos_token;
  if (config_.pad_token >= 0) generation["pad_token_id"] = config_.pad_token;
  MPO_RETURN_IF_ERROR(WriteFileAtomically(directory / "generation_config.json",
                                          generation.dump(2) + "\n"));
  return WriteFileAtomically(directory / "config.json", ToJson(config_));
}

}  // namespace mpo::model
