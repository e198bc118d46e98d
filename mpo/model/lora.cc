// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/lora.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/safetensors.h"
#include "mpo/tensor/counter_random.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::model {
namespace {

using tensor::CatchTorch;
using tensor::NamedTensor;

constexpr std::array<const char*, kModules> kNames = {
    "q_proj",    "k_proj",  "v_proj",   "o_proj",
    "gate_proj", "up_proj", "down_proj"};
constexpr std::array<const char*, kModules> kBlocks = {
    "self_attn", "self_attn", "self_attn", "self_attn", "mlp", "mlp", "mlp"};

// What PEFT 0.15 saves beside an adapter of lm_head.
constexpr char kHeadCopy[] = "base_model.model.lm_head.base_layer.weight";

struct Size {
  int64_t out;
  int64_t in;
};

Size ModuleSize(const ModelConfig& c, int module) {
  switch (static_cast<Module>(module)) {
    case Module::kQ:
      return {c.q_size(), c.hidden_size};
    case Module::kK:
    case Module::kV:
      return {c.kv_size(), c.hidden_size};
    case Module::kO:
      return {c.hidden_size, c.q_size()};
    case Module::kGate:
    case Module::kUp:
      return {c.intermediate_size, c.hidden_size};
    case Module::kDown:
      return {c.hidden_size, c.intermediate_size};
  }
  return {0, 0};
}

// Name of a linear layer in Hugging Face files, without ".weight".
std::string ModuleName(int64_t layer, int module) {
  return absl::StrCat("model.layers.", layer, ".", kBlocks[module], ".",
                      kNames[module]);
}

// PEFT names of a module's two matrices.
std::pair<std::string, std::string> PeftNames(const std::string& module) {
  const std::string prefix = absl::StrCat("base_model.model.", module);
  return {prefix + ".lora_A.weight", prefix + ".lora_B.weight"};
}

// Neither is filled: most are copied to or replaced.
LoraWeights Empty(int64_t rank, const Size& size) {
  return {at::empty({rank, size.in}, at::kFloat).set_requires_grad(true),
          at::empty({size.out, rank}, at::kFloat).set_requires_grad(true)};
}

}  // namespace

LoraAdapter::LoraAdapter(LoraConfig config, ModelConfig model)
    : config_(std::move(config)),
      model_(std::move(model)),
      first_layer_(model_.layers),
      layers_(model_.layers) {
  for (const int64_t i : AdaptedLayers(config_, model_)) {
    first_layer_ = std::min(first_layer_, i);
    for (int m = 0; m < kModules; ++m) {
      if (!Targets(config_, kNames[m])) continue;
      layers_[i][m] = Empty(config_.rank, ModuleSize(model_, m));
    }
  }
  if (Targets(config_, "lm_head"))
    head_ = Empty(config_.rank, {model_.vocab_size, model_.hidden_size});
}

double LoraAdapter::scale() const {
  const double rank = static_cast<double>(config_.rank);
  return config_.alpha / (config_.rank_stabilised ? std::sqrt(rank) : rank);
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Create(
    const LoraConfig& config, const ModelConfig& model, uint64_t seed) {
  MPO_RETURN_IF_ERROR(ValidateLora(config, model));
  if (config.dropout != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora: dropout: expected 0 for a new adapter (training "
                     "with dropout is not supported), found ",
                     config.dropout));
  }
  return CatchTorch("make adapter", [&] {
    at::NoGradGuard no_grad;
    std::shared_ptr<LoraAdapter> adapter(new LoraAdapter(config, model));
    auto fill = [seed](LoraWeights& w, int64_t stream) {
      if (!w.a.defined()) return;
      const double stddev = 1.0 / std::sqrt(static_cast<double>(w.a.size(1)));
      w.a.copy_(tensor::NormalTensor(w.a.sizes(), stddev, seed, stream));
      w.b.zero_();
    };
    for (int64_t i = 0; i < model.layers; ++i) {
      for (int m = 0; m < kModules; ++m)
        fill(adapter->layers_[i][m], i * kModules + m);
    }
    fill(adapter->head_, model.layers * kModules);
    return adapter;
  });
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::FromTensors(
    const LoraConfig& config, const ModelConfig& model,
    const std::vector<NamedTensor>& tensors, LanguageModel::Memory memory) {
  MPO_RETURN_IF_ERROR(ValidateLora(config, model));
  MPO_ASSIGN_OR_RETURN(
      auto adapter, CatchTorch("make adapter", [&] {
        return std::shared_ptr<LoraAdapter>(new LoraAdapter(config, model));
      }));
  std::map<std::string, at::Tensor> sources;
  for (const NamedTensor& named : tensors) sources[named.name] = named.tensor;
  for (const auto& [name, slot] : adapter->Slots()) {
    auto it = sources.find(name);
    if (it == sources.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("adapter: tensor '", name, "' is missing"));
    }
    const at::Tensor& source = it->second;
    if (source.sizes() != slot->sizes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("adapter: tensor '", name, "': expected shape ",
                       tensor::ShapeString(slot->sizes()), ", found ",
                       tensor::ShapeString(source.sizes())));
    }
    const bool shared = memory == LanguageModel::Memory::kShared &&
                        source.scalar_type() == at::kFloat && source.is_cpu() &&
                        source.is_contiguous();
    MPO_RETURN_IF_ERROR(CatchTorch("copy adapter", [&] {
      at::NoGradGuard no_grad;
      if (shared) {
        *slot = source.detach().set_requires_grad(true);
      } else {
        slot->copy_(source);
      }
    }));
    sources.erase(it);
  }
  if (!sources.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "adapter: tensor '", sources.begin()->first, "' is not expected"));
  }
  return adapter;
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Load(
    const std::filesystem::path& directory, const ModelConfig& model) {
  const auto config_path = directory / "adapter_config.json";
  const auto weights_path = directory / "adapter_model.safetensors";
  MPO_ASSIGN_OR_RETURN(std::string json, ReadFile(config_path, 1 << 20));
  MPO_ASSIGN_OR_RETURN(LoraConfig config,
                       ParsePeftJson(json, model, config_path.string()));
  MPO_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(weights_path));
  std::vector<NamedTensor> tensors;
  const std::vector<int64_t> head_shape = {model.vocab_size, model.hidden_size};
  for (const auto& [name, entry] : file->header().entries) {
    if (name == kHeadCopy && Targets(config, "lm_head") &&
        entry.shape == head_shape) {
      continue;
    }
    MPO_ASSIGN_OR_RETURN(at::Tensor tensor, file->Read(name));
    tensors.push_back({name, tensor});
  }
  auto adapter = FromTensors(config, model, tensors);
  if (!adapter.ok()) {
    return absl::Status(
        adapter.status().code(),
        absl::StrCat(weights_path.string(), ": ", adapter.status().message()));
  }
  return adapter;
}

absl::Status LoraAdapter::Save(const std::filesystem::path& directory) const {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat(directory.string(), ": ", error.message()));
  }
  MPO_RETURN_IF_ERROR(
      WriteSafetensors(directory / "adapter_model.safetensors", Parameters()));
  return WriteFileAtomically(directory / "adapter_config.json",
                             ToPeftJson(config_, model_));
}

std::vector<NamedTensor> LoraAdapter::Parameters() const {
  std::vector<NamedTensor> all;
  // The tensors are handles; nothing is changed through them here.
  for (const auto& [name, slot] : const_cast<LoraAdapter*>(this)->Slots()) {
    all.push_back({name, *slot});
  }
  return all;
}

std::vector<std::pair<std::string, at::Tensor*>> LoraAdapter::Slots() {
  std::vector<std::pair<std::string, at::Tensor*>> all;
  auto add = [&](LoraWeights& weights, const std::string& module) {
    if (!weights.a.defined()) return;
    const auto [a, b] = PeftNames(module);
    all.emplace_back(a, &weights.a);
    all.emplace_back(b, &weights.b);
  };
  for (int64_t i = first_layer_; i < model_.layers; ++i) {
    for (int m = 0; m < kModules; ++m) add(layers_[i][m], ModuleName(i, m));
  }
  add(head_, "lm_head");
  return all;
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Clone(
    const at::Device& device) const {
  MPO_ASSIGN_OR_RETURN(auto clone, FromTensors(config_, model_, Parameters()));
  MPO_RETURN_IF_ERROR(CatchTorch("move adapter", [&] {
    for (const auto& [name, slot] : clone->Slots()) {
      *slot = slot->detach().to(device).set_requires_grad(true);
    }
  }));
  return clone;
}

absl::Status CheckFits(const LoraAdapter& adapter, const ModelConfig& model) {
  const ModelConfig& own = adapter.model_config();
  if (own.layers == model.layers && own.hidden_size == model.hidden_size &&
      own.q_size() == model.q_size() && own.kv_size() == model.kv_size() &&
      own.intermediate_size == model.intermediate_size &&
      (!adapter.head().a.defined() || own.vocab_size == model.vocab_size)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "adapter of a model with ", own.layers, " layers of ", own.hidden_size,
      " does not fit a model with ", model.layers, " layers of ",
      model.hidden_size,
      " (or the heads, the feed-forward size or the vocabulary differ)"));
}

namespace {

// W + sign * scale B A for every adapted W.
absl::StatusOr<std::shared_ptr<const LanguageModel>> Add(
    const LanguageModel& model, const LoraAdapter& adapter, double sign) {
  MPO_RETURN_IF_ERROR(CheckFits(adapter, model.config()));
  ModelConfig config = model.config();
  std::vector<NamedTensor> weights = model.StateDict();
  if (adapter.head().a.defined() && config.tie_embeddings) {
    config.tie_embeddings = false;
    weights.push_back({"lm_head.weight", model.head().detach()});
  }
  std::map<std::string, const LoraWeights*> updates;
  for (int64_t i = adapter.first_layer(); i < config.layers; ++i) {
    for (int m = 0; m < kModules; ++m) {
      updates[ModuleName(i, m) + ".weight"] =
          &adapter.weights(i, static_cast<Module>(m));
    }
  }
  updates["lm_head.weight"] = &adapter.head();
  MPO_RETURN_IF_ERROR(CatchTorch("merge adapter", [&] {
    at::NoGradGuard no_grad;
    for (NamedTensor& named : weights) {
      const auto found = updates.find(named.name);
      if (found == updates.end() || !found->second->a.defined()) continue;
      const LoraWeights& lora = *found->second;
      const at::Tensor delta =
          at::mm(lora.b, lora.a).mul_(sign * adapter.scale());
      named.tensor =
          (named.tensor.to(at::kFloat) + delta.to(named.tensor.device()))
              .to(named.tensor.dtype());
    }
  }));
  return LanguageModel::FromTensors(
      config, weights, {.dtype = model.dtype(), .device = model.device()});
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LanguageModel>> Merge(
    const LanguageModel& base, const LoraAdapter& adapter) {
  return Add(base, adapter, 1.0);
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> Unmerge(
    const LanguageModel& merged, const LoraAdapter& adapter) {
  return Add(merged, adapter, -1.0);
}

}  // namespace mpo::model
