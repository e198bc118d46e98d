// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/lora_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/config_fields.h"
#include "mpo/text/json_file.h"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 8> kNames = {
    "q_proj",    "k_proj",  "v_proj",    "o_proj",
    "gate_proj", "up_proj", "down_proj", "lm_head"};

bool Known(const std::string& name) {
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// PEFT lets a name begin with the block it stands in.
std::string WithoutBlock(const std::string& name) {
  for (const char* block : {"self_attn.", "mlp."}) {
    const std::string prefix(block);
    if (name.compare(0, prefix.size(), prefix) == 0 &&
        Known(name.substr(prefix.size()))) {
      return name.substr(prefix.size());
    }
  }
  return name;
}

bool Empty(const Json& value) {
  return value.is_null() || value == false || value == 0 || value == "" ||
         (value.is_structured() && value.empty());
}

// Keys whose values say nothing about what a trained adapter computes.
const std::set<std::string>& NeutralKeys() {
  static const auto& keys =
      *new std::set<std::string>{"auto_mapping",   "base_model_name_or_path",
                                 "corda_config",   "eva_config",
                                 "inference_mode", "loftq_config",
                                 "megatron_core",  "peft_version",
                                 "revision",       "task_type"};
  return keys;
}

std::vector<std::string> ReadModules(ConfigFields& fields) {
  const Json* list = fields.Find("target_modules");
  std::set<std::string> found;
  bool good = list != nullptr && list->is_array() && !list->empty();
  if (good) {
    for (const Json& item : *list) {
      const std::string name =
          item.is_string() ? WithoutBlock(item.get<std::string>()) : "";
      good = good && Known(name) && found.insert(name).second;
    }
  }
  if (!good) {
    fields.Wrong("target_modules",
                 absl::StrCat("a list of some of ", absl::StrJoin(kNames, ", "),
                              ", each once"),
                 list == nullptr ? Json() : *list);
  }
  std::vector<std::string> modules;
  for (const char* name : kNames) {
    if (found.count(name) > 0) modules.emplace_back(name);
  }
  return modules;
}

// layers_to_transform: null or [] = all layers, a number or a list of them.
void ReadLayers(ConfigFields& fields, const ModelConfig& model,
                LoraConfig& config) {
  const Json* pattern = fields.Find("layers_pattern");
  if (pattern != nullptr && !Empty(*pattern) && *pattern != "layers" &&
      *pattern != Json::array({"layers"})) {
    fields.Wrong("layers_pattern", "\"layers\" or nothing", *pattern);
  }
  const Json* value = fields.Find("layers_to_transform");
  if (value == nullptr) return;
  std::set<int64_t> layers;
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    if (!item.is_number_unsigned() ||
        item.get<uint64_t>() >= static_cast<uint64_t>(model.layers)) {
      fields.Wrong("layers_to_transform",
                   absl::StrCat("layers of 0 to ", model.layers - 1), *value);
      return;
    }
    layers.insert(item.get<int64_t>());
  }
  const auto count = static_cast<int64_t>(layers.size());
  if (count == 0 || count == model.layers) return;
  if (*layers.begin() == model.layers - count) {
    config.layers = count;
  } else {
    config.layer_indices.assign(layers.begin(), layers.end());
  }
}

// How the matrices came to be is past, unless the base was changed with them.
void RefuseChangedBase(ConfigFields& fields) {
  const Json* value = fields.Find("init_lora_weights");
  if (value == nullptr || value->is_boolean()) return;
  for (const char* harmless : {"gaussian", "eva", "orthogonal"}) {
    if (*value == harmless) return;
  }
  fields.Wrong("init_lora_weights",
               "true, false, gaussian, eva or orthogonal (others change the "
               "base weights)",
               *value);
}

}  // namespace

bool Targets(const LoraConfig& config, std::string_view module) {
  return std::find(config.target_modules.begin(), config.target_modules.end(),
                   module) != config.target_modules.end();
}

std::vector<int64_t> AdaptedLayers(const LoraConfig& config,
                                   const ModelConfig& model) {
  std::vector<int64_t> layers;
  if (config.target_modules == std::vector<std::string>{"lm_head"})
    return layers;
  if (!config.layer_indices.empty()) return config.layer_indices;
  for (int64_t i = config.layers == 0 ? 0 : model.layers - config.layers;
       i < model.layers; ++i) {
    layers.push_back(i);
  }
  return layers;
}

absl::Status ValidateLora(const LoraConfig& config, const ModelConfig& model) {
  auto bad = [](auto&&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("lora: ", parts...));
  };
  if (config.rank < 1 || config.rank > 4096) {
    return bad("rank: expected 1 to 4096, found ", config.rank);
  }
  if (!(config.alpha > 0) || !std::isfinite(config.alpha)) {
    return bad("alpha: expected a positive number, found ", config.alpha);
  }
  if (!(config.dropout >= 0) || !(config.dropout < 1)) {
    return bad("dropout: expected 0 to below 1, found ", config.dropout);
  }
  if (config.layers < 0 || config.layers > model.layers) {
    return bad("layers: expected 0 to ", model.layers, ", found ",
               config.layers);
  }
  if (!config.layer_indices.empty() && config.layers != 0) {
    return bad("layers: expected 0 beside layer_indices, found ",
               config.layers);
  }
  int64_t least = 0;
  for (const int64_t index : config.layer_indices) {
    if (index < least || index >= model.layers) {
      return bad("layer_indices: expected ascending layers of 0 to ",
                 model.layers - 1, ", found ",
                 absl::StrJoin(config.layer_indices, ", "));
    }
    least = index + 1;
  }
  if (config.target_modules.empty()) return bad("target_modules is empty");
  std::set<std::string> seen;
  for (const std::string& name : config.target_modules) {
    if (!Known(name)) {
      return bad("target module '", name, "' is not known; expected ",
                 absl::StrJoin(kNames, ", "));
    }
    if (!seen.insert(name).second)
      return bad("target module '", name, "' given twice");
  }
  return absl::OkStatus();
}

std::string ToPeftJson(const LoraConfig& config, const ModelConfig& model) {
  Json json = {{"peft_type", "LORA"},
               {"task_type", "CAUSAL_LM"},
               {"base_model_name_or_path", nullptr},
               {"r", config.rank},
               {"lora_alpha", config.alpha},
               {"lora_dropout", config.dropout},
               {"use_rslora", config.rank_stabilised},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"inference_mode", true},
               {"target_modules", config.target_modules}};
  const std::vector<int64_t> layers = AdaptedLayers(config, model);
  if (!layers.empty() && static_cast<int64_t>(layers.size()) < model.layers) {
    json["layers_to_transform"] = layers;
    json["layers_pattern"] = "layers";
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<LoraConfig> ParsePeftJson(std::string_view text,
                                         const ModelConfig& model,
                                         std::string_view source_name) {
  const std::string source(source_name);
  MPO_ASSIGN_OR_RETURN(const Json json, text::ParseJsonObject(text, source));
  ConfigFields fields(json, source);
  LoraConfig config;
  if (const std::string type = fields.String("peft_type"); type != "LORA")
    fields.Wrong("peft_type", "\"LORA\"", type);
  config.rank = fields.Int("r");
  config.alpha = fields.Number("lora_alpha");
  config.rank_stabilised = fields.Bool("use_rslora", false);
  config.dropout = fields.Number("lora_dropout", 0.0);
  config.target_modules = ReadModules(fields);
  ReadLayers(fields, model, config);
  fields.Only("bias", "none");
  fields.Only("layer_replication", Json::array());
  RefuseChangedBase(fields);
  std::set<std::string> neutral = NeutralKeys();
  for (const auto& [key, value] : json.items()) {
    if (Empty(value)) neutral.insert(key);
  }
  MPO_RETURN_IF_ERROR(fields.Finish(neutral));
  if (absl::Status status = ValidateLora(config, model); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": ", status.message()));
  }
  return config;
}

}  // namespace mpo::model
