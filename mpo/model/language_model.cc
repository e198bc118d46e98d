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
#include "mpo/model/safetensors.h"
#include "mpo/tensor/counter_random.h"
#include "mpo/tensor/torch_errors.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using tensor::CatchTorch;
using tensor::NamedTensor;

// Finds the file of each tensor of a directory.
absl::StatusOr<std::map<std::string, std::shared_ptr<const SafetensorsFile>>>
OpenShards(const std::filesystem::path& directory) {
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> found;
  const auto index_path = directory / "model.safetensors.index.json";
  if (!std::filesystem::exists(index_path)) {
    MPO_ASSIGN_OR_RETURN(
        auto file, SafetensorsFile::Open(directory / "model.safetensors"));
    for (const auto& [name, entry] : file->header().entries) found[name] = file;
    return found;
  }
  MPO_ASSIGN_OR_RETURN(std::string text,
                       ReadFile(index_path, uint64_t{1} << 28));
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("weight_map") ||
      !json["weight_map"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        index_path.string(), ": expected an object with weight_map"));
  }
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> files;
  for (const auto& [name, shard] : json["weight_map"].items()) {
    const std::string file_name =
        shard.is_string() ? shard.get<std::string>() : "";
    if (file_name.empty() || file_name.find('/') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path.string(), ": tensor '", name,
                       "': expected a file of the directory"));
    }
    auto& file = files[file_name];
    if (file == nullptr) {
      MPO_ASSIGN_OR_RETURN(file, SafetensorsFile::Open(directory / file_name));
    }
    if (file->header().entries.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path.string(), ": tensor '", name, "' is not in ",
                       file->path().string()));
    }
    found[name] = file;
  }
  return found;
}

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
  MPO_ASSIGN_OR_RETURN(auto shards, OpenShards(directory));
  std::shared_ptr<LanguageModel> model(new LanguageModel(std::move(config)));
  MPO_RETURN_IF_ERROR(
      CatchTorch("allocate the weights", [&] { model->Allocate(options); }));
  std::set<std::string> names;
  for (const auto& [name, file] : shards) names.insert(name);
  MPO_RETURN_IF_ERROR(Fill(
      *model, names,
      [&](const std::string& name, const at::Tensor& target) {
        return shards.at(name)->Read(name, target);
      },
      directory.string()));
  return std::shared_ptr<const LanguageModel>(std::move(model));
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> LanguageModel::FromTensors(
    const ModelConfig& config, const std::vector<NamedTensor>& tensors,
    const LoadOptions& options) {
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
  auto read = [&](const std::string& name,
                  const at::Tensor& target) -> absl::Status {
    const at::Tensor& source = sources.at(name);
    if (source.sizes() != target.sizes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", name, "': expected shape ",
                       tensor::ShapeString(target.sizes()), ", found ",
                       tensor::ShapeString(source.sizes())));
    }
    return CatchTorch("copy weights", [&] {
      at::NoGradGuard no_grad;
      at::Tensor writable = target;
      writable.copy_(source);
    });
  };
  MPO_RETURN_IF_ERROR(Fill(*model, names, read, "weights"));
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

absl::StatusOr<std::shared_ptr<LanguageModel>> LanguageModel::TrainableCopy()
    const {
  std::shared_ptr<LanguageModel> copy(new LanguageModel(config_));
  MPO_RETURN_IF_ERROR(CatchTorch("copy the weights", [&] {
    at::NoGradGuard no_grad;
    copy->Allocate({.dtype = dtype(), .device = device()});
    const auto sources = Parameters();
    auto targets = copy->Parameters();
    for (size_t i = 0; i < sources.size(); ++i) {
      targets[i].tensor.copy_(sources[i].tensor);
      targets[i].tensor.set_requires_grad(true);
    }
  }));
  return copy;
}

std::vector<NamedTensor> LanguageModel::Parameters() const {
  std::vector<NamedTensor> all = {{"model.embed_tokens.weight", embedding_}};
  for (int64_t i = 0; i < config_.layers; ++i) {
    const LayerWeights& layer = layers_[i];
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    all.push_back({prefix + "input_layernorm.weight", layer.input_norm});
    all.push_back({prefix + "self_attn.qkv_proj.weight", layer.qkv});
    if (layer.qkv_bias.defined())
      all.push_back({prefix + "self_attn.qkv_proj.bias", layer.qkv_bias});
    if (layer.q_norm.defined()) {
      all.push_back({prefix + "self_attn.q_norm.weight", layer.q_norm});
      all.push_back({prefix + "self_attn.k_norm.weight", layer.k_norm});
    }
    all.push_back({prefix + "self_attn.o_proj.weight", layer.o});
    all.push_back(
        {prefix + "post_attention_layernorm.weight", layer.post_norm});
    all.push_back({prefix + "mlp.gate_up_proj.weight", layer.gate_up});
    all.push_back({prefix + "mlp.down_proj.weight", layer.down});
  }
  all.push_back({"model.norm.weight", final_norm_});
  if (!config_.tie_embeddings) all.push_back({"lm_head.weight", head_});
  return all;
}

std::vector<NamedTensor> LanguageModel::StateDict() const {
  std::vector<NamedTensor> all;
  const int64_t q = config_.q_size();
  const int64_t kv = config_.kv_size();
  const int64_t ff = config_.intermediate_size;
  for (const NamedTensor& named : Parameters()) {
    const at::Tensor tensor = named.tensor.detach();
    auto split = [&](const std::string& fused, const std::string& part,
                     int64_t begin, int64_t size) {
      std::string name = named.name;
      name.replace(name.find(fused), fused.size(), part);
      all.push_back({std::move(name), tensor.narrow(0, begin, size)});
    };
    if (absl::StrContains(named.name, "qkv_proj")) {
      split("qkv_proj", "q_proj", 0, q);
      split("qkv_proj", "k_proj", q, kv);
      split("qkv_proj", "v_proj", q + kv, kv);
    } else if (absl::StrContains(named.name, "gate_up_proj")) {
      split("gate_up_proj", "gate_proj", 0, ff);
      split("gate_up_proj", "up_proj", ff, ff);
    } else {
      all.push_back({named.name, tensor});
    }
  }
  return all;
}

absl::Status LanguageModel::Save(const std::filesystem::path& directory) const {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat(directory.string(), ": ", error.message()));
  }
  MPO_RETURN_IF_ERROR(
      WriteSafetensors(directory / "model.safetensors", StateDict()));
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
