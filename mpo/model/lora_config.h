// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/model_config.h"

namespace mpo::model {

// Shape of a low-rank update. Module names are Hugging Face's: q_proj, k_proj,
// v_proj, o_proj, gate_proj, up_proj and down_proj of a decoder layer, and
// lm_head. A tied lm_head is adapted apart from the embedding, which stays.
struct LoraConfig {
  int64_t rank = 16;  // 1 to 4096.
  double alpha = 32;  // > 0.
  // Adapters sit in the top `layers` layers; 0 = in all. lm_head is no layer.
  int64_t layers = 0;
  std::vector<std::string> target_modules = {"q_proj",   "k_proj",    "v_proj",
                                             "o_proj",   "gate_proj", "up_proj",
                                             "down_proj"};
  bool rank_stabilised = false;  // Scale alpha / sqrt(rank), not alpha / rank.
  // Exactly these layers, ascending; empty = as `layers` says.
  std::vector<int64_t> layer_indices = {};
  // What an adapter was trained with elsewhere, [0, 1). Kept for the file,
  // never applied: inference has no dropout, and training with one is not
  // supported.
  double dropout = 0;
  bool operator==(const LoraConfig&) const = default;
};

// OK when the fields are in range and fit the model; INVALID_ARGUMENT names the
// field, what was expected and what was found.
absl::Status ValidateLora(const LoraConfig& config, const ModelConfig& model);

// Layers that carry adapters, ascending; empty when only lm_head does.
std::vector<int64_t> AdaptedLayers(const LoraConfig& config,
                                   const ModelConfig& model);

bool Targets(const LoraConfig& config, std::string_view module);

// adapter_config.json as PEFT 0.15 reads it.
std::string ToPeftJson(const LoraConfig& config, const ModelConfig& model);

// And back. INVALID_ARGUMENT for bad JSON, a value out of range and whatever is
// not supported: other methods than LORA, DoRA, biases, patterns, other
// modules, regular expressions, initialisations that change the base weights,
// and any key that is not known unless it is null, false, 0 or empty. The
// message names source, key, what was expected and what was found.
absl::StatusOr<LoraConfig> ParsePeftJson(std::string_view json,
                                         const ModelConfig& model,
                                         std::string_view source);

}  // namespace mpo::model
