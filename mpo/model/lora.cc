// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/lora.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
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

using Json = nlohmann::json;
using tensor::CatchTorch;
using tensor::NamedTensor;

constexpr std::array<const char*, kModules> kNames = {
    "q_proj",    "k_proj",  "v_proj",   "o_proj",
    "gate_proj", "up_proj", "down_proj"};
constexpr std::array<const char*, kModules> kBlocks = {
    "self_attn", "self_attn", "self_attn", "self_attn", "mlp", "mlp", "mlp"};

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

absl::Status CheckConfig(const LoraConfig& config, const ModelConfig& model) {
  auto bad = [](auto&&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("lora: ", parts...));
  };
  if (config.rank < 1 || config.rank > 4096) {
    return bad("rank: expected 1 to 4096, found ", config.rank);
  }
  if (!(config.alpha > 0) || !std::isfinite(config.alpha)) {
    return bad("alpha: expected a positive number, found ", config.alpha);
  }
  if (config.layers < 0 || config.layers > model.layers) {
    return bad("layers: expected 0 to ", model.layers, ", found ",
               config.layers);
  }
  if (config.target_modules.empty()) return bad("target_modules is empty");
  std::set<std::string> seen;
  for (const std::string& name : config.target_modules) {
    if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
      return bad("target module '", name,
                 "' is not known; expected q_proj, k_proj, v_proj, ",
                 "o_proj, gate_proj, up_proj or down_proj");
    }
    if (!seen.insert(name).second)
      return bad("target module '", name, "' given twice");
  }
  return absl::OkStatus();
}

}  // namespace

std::string ToPeftJson(const LoraConfig& config, const ModelConfig& model) {
  Json json = {{"peft_type", "LORA"},
               {"task_type", "CAUSAL_LM"},
               {"base_model_name_or_path", nullptr},
               {"r", config.rank},
               {"lora_alpha", config.alpha},
               {"lora_dropout", 0.0},
               {"use_rslora", config.rank_stabilised},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"inference_mode", true},
               {"target_modules", config.target_modules}};
  if (config.layers > 0 && config.layers < model.layers) {
    for (int64_t i = model.layers - config.layers; i < model.layers; ++i) {
      json["layers_to_transform"].push_back(i);
    }
    json["layers_pattern"] = "layers";
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<LoraConfig> ParsePeftJson(std::string_view text,
                                         const ModelConfig& model,
                                         std::string_view source_name) {
  const std::string source(source_name);
  auto bad = [&](auto&&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", parts...));
  };
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return bad("expected a JSON object");
  auto value = [&](const char* key) {
    return json.contains(key) ? json[key] : Json();
  };
  if (value("peft_type") != "LORA") return bad("peft_type: expected LORA");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    if (value(key) == true) return bad("key '", key, "' is not supported");
  }
  for (const char* key :
       {"rank_pattern", "alpha_pattern", "modules_to_save", "exclude_modules",
        "layer_replication", "megatron_config", "trainable_token_indices"}) {
    if (!value(key).empty()) return bad("key '", key, "' is not supported");
  }
  if (json.contains("bias") && json["bias"] != "none")
    return bad("bias: expected none");
  LoraConfig config;
  if (!value("r").is_number_integer()) return bad("r: expected an integer");
  if (!value("lora_alpha").is_number())
    return bad("lora_alpha: expected a number");
  config.rank = json["r"].get<int64_t>();
  config.alpha = json["lora_alpha"].get<double>();
  config.rank_stabilised = value("use_rslora") == true;
  if (!value("target_modules").is_array())
    return bad("target_modules: expected a list");
  config.target_modules.clear();
  for (const char* name : kNames) {
    if (std::find(json["target_modules"].begin(), json["target_modules"].end(),
                  name) != json["target_modules"].end()) {
      config.target_modules.emplace_back(name);
    }
  }
  if (config.target_modules.size() != json["target_modules"].size()) {
    return bad("target_modules: found ", json["target_modules"].dump(),
               ", expected some of q_proj, k_proj, v_proj, o_proj, gate_proj, "
               "up_proj, down_proj");
  }
  if (Json layers = value("layers_to_transform"); !layers.is_null()) {
    config.layers = static_cast<int64_t>(layers.size());
    Json top = Json::array();
    for (int64_t i = std::max<int64_t>(0, model.layers - config.layers);
         i < model.layers; ++i) {
      top.push_back(i);
    }
    if (layers != top || config.layers == 0) {
      return bad("layers_to_transform: expected the top layers in order, as ",
                 top.dump());
    }
  }
  if (absl::Status status = CheckConfig(config, model); !status.ok()) {
    return bad(status.message());
  }
  return config;
}

LoraAdapter::LoraAdapter(LoraConfig config, ModelConfig model)
    : config_(std::move(config)),
      model_(std::move(model)),
      layers_(model_.layers) {
  first_layer_ = config_.layers == 0 ? 0 : model_.layers - config_.layers;
  for (int64_t i = first_layer_; i < model_.layers; ++i) {
    for (int m = 0; m < kModules; ++m) {
      const auto& targets = config_.target_modules;
      if (std::find(targets.begin(), targets.end(), kNames[m]) == targets.end())
        continue;
      const Size size = ModuleSize(model_, m);
      layers_[i][m] = {at::zeros({config_.rank, size.in}, at::kFloat)
                           .set_requires_grad(true),
                       at::zeros({size.out, config_.rank}, at::kFloat)
                           .set_requires_grad(true)};
    }
  }
}

double LoraAdapter::scale() const {
  const double rank = static_cast<double>(config_.rank);
  return config_.alpha / (config_.rank_stabilised ? std::sqrt(rank) : rank);
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Create(
    const LoraConfig& config, const ModelConfig& model, uint64_t seed) {
  MPO_RETURN_IF_ERROR(CheckConfig(config, model));
  return CatchTorch("make adapter", [&] {
    at::NoGradGuard no_grad;
    std::shared_ptr<LoraAdapter> adapter(new LoraAdapter(config, model));
    for (int64_t i = adapter->first_layer_; i < model.layers; ++i) {
      for (int m = 0; m < kModules; ++m) {
        at::Tensor& a = adapter->layers_[i][m].a;
        if (!a.defined()) continue;
        const double stddev = 1.0 / std::sqrt(static_cast<double>(a.size(1)));
        a.copy_(
            tensor::NormalTensor(a.sizes(), stddev, seed, i * kModules + m));
      }
    }
    return adapter;
  });
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::FromTensors(
    const LoraConfig& config, const ModelConfig& model,
    const std::vector<NamedTensor>& tensors) {
  MPO_RETURN_IF_ERROR(CheckConfig(config, model));
  MPO_ASSIGN_OR_RETURN(
      auto adapter, CatchTorch("make adapter", [&] {
        return std::shared_ptr<LoraAdapter>(new LoraAdapter(config, model));
      }));
  std::map<std::string, at::Tensor> sources;
  for (const NamedTensor& named : tensors) sources[named.name] = named.tensor;
  for (NamedTensor& target : adapter->Parameters()) {
    auto it = sources.find(target.name);
    if (it == sources.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("adapter: tensor '", target.name, "' is missing"));
    }
    if (it->second.sizes() != target.tensor.sizes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("adapter: tensor '", target.name, "': expected shape ",
                       tensor::ShapeString(target.tensor.sizes()), ", found ",
                       tensor::ShapeString(it->second.sizes())));
    }
    MPO_RETURN_IF_ERROR(CatchTorch("copy adapter", [&] {
      at::NoGradGuard no_grad;
      target.tensor.copy_(it->second);
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
  for (const auto& [name, entry] : file->header().entries) {
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
  for (int64_t i = first_layer_; i < model_.layers; ++i) {
    for (int m = 0; m < kModules; ++m) {
      const LoraWeights& weights = layers_[i][m];
      if (!weights.a.defined()) continue;
      const std::string prefix = absl::StrCat(
          "base_model.model.model.layers.", i, ".", kBlocks[m], ".", kNames[m]);
      all.push_back({prefix + ".lora_A.weight", weights.a});
      all.push_back({prefix + ".lora_B.weight", weights.b});
    }
  }
  return all;
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Clone() const {
  return FromTensors(config_, model_, Parameters());
}

absl::Status CheckFits(const LoraAdapter& adapter, const ModelConfig& model) {
  const ModelConfig& own = adapter.model_config();
  if (own.layers == model.layers && own.hidden_size == model.hidden_size &&
      own.q_size() == model.q_size() && own.kv_size() == model.kv_size() &&
      own.intermediate_size == model.intermediate_size) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "adapter of a model with ", own.layers, " layers of ", own.hidden_size,
      " does not fit a model with ", model.layers, " layers of ",
      model.hidden_size, " (or the heads or the feed-forward size differ)"));
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> Merge(
    const LanguageModel& base, const LoraAdapter& adapter) {
  MPO_RETURN_IF_ERROR(CheckFits(adapter, base.config()));
  std::vector<NamedTensor> weights = base.StateDict();
  MPO_RETURN_IF_ERROR(CatchTorch("merge adapter", [&] {
    at::NoGradGuard no_grad;
    for (NamedTensor& named : weights) {
      for (int64_t i = adapter.first_layer(); i < base.config().layers; ++i) {
        for (int m = 0; m < kModules; ++m) {
          const LoraWeights& lora = adapter.weights(i, static_cast<Module>(m));
          if (!lora.a.defined() ||
              named.name != absl::StrCat("model.layers.", i, ".", kBlocks[m],
                                         ".", kNames[m], ".weight")) {
            continue;
          }
          const at::Tensor delta = at::mm(lora.b, lora.a).mul(adapter.scale());
          named.tensor =
              (named.tensor.to(at::kFloat) + delta.to(named.tensor.device()))
                  .to(named.tensor.dtype());
        }
      }
    }
  }));
  return LanguageModel::FromTensors(
      base.config(), weights, {.dtype = base.dtype(), .device = base.device()});
}

}  // namespace mpo::model
