// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::model {

// LlamaForCausalLM; Qwen2ForCausalLM: biases on q, k and v;
// Qwen3ForCausalLM: RMS norms on every head of q and k before the rotation.
enum class Architecture { kLlama, kQwen2, kQwen3 };

// How rotary frequencies are changed for long contexts (config key
// rope_scaling). kLinear divides positions by factor; kLlama3 divides the low
// frequencies and blends between the two bounds. kDynamic (dynamic NTK) raises
// the base for a sequence of length > context, as a function of that length
// (model/decoder.h, RotaryFrequencies); up to `context` it changes nothing.
struct RopeScaling {
  enum class Kind { kLinear, kLlama3, kDynamic };
  Kind kind = Kind::kLinear;
  double factor = 1.0;
  double low_freq_factor = 1.0;   // kLlama3.
  double high_freq_factor = 4.0;  // kLlama3.
  int64_t original_context = 0;   // kLlama3: tokens.
  bool operator==(const RopeScaling&) const = default;
};

// Shape and mathematics of a decoder, as config.json states them.
struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // Divides heads.
  int64_t head_dim = 0;  // Even.
  // Tokens: max_position_embeddings. Generation, scoring and training refuse
  // longer sequences; with kDynamic that is the original context, because
  // cached keys could not follow frequencies that change with the length.
  int64_t context = 0;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_embeddings = false;  // The head is the embedding.
  // Tokens that end a response; generation_config.json goes before
  // config.json. May be empty.
  std::vector<int32_t> eos_tokens;
  int32_t bos_token = -1;  // -1 = none.
  int32_t pad_token = -1;  // -1 = none.

  bool qkv_bias() const { return architecture == Architecture::kQwen2; }
  bool qk_norm() const { return architecture == Architecture::kQwen3; }
  int64_t q_size() const { return heads * head_dim; }
  int64_t kv_size() const { return kv_heads * head_dim; }
  // Number of weights, a tied head counted once.
  int64_t parameters() const;
  bool operator==(const ModelConfig&) const = default;
};

// Parses config.json and, where not empty, generation_config.json. `source`
// names the files in messages. INVALID_ARGUMENT for bad JSON, a missing key, a
// value out of range, an architecture that is not supported, and any key that
// is not known to leave the mathematics alone; the message names file, key,
// what was expected and what was found. Defaults are those of transformers
// 4.51; docs/models.md lists the keys.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config_json,
                                             std::string_view generation_json,
                                             std::string_view source);

// Reads both files of a Hugging Face directory. NOT_FOUND names a missing one.
absl::StatusOr<ModelConfig> LoadModelConfig(
    const std::filesystem::path& directory);

// config.json of the configuration, as transformers reads it.
std::string ToJson(const ModelConfig& config);

// Ranges, divisibility and at most 1e13 weights; INVALID_ARGUMENT names the
// field.
absl::Status Validate(const ModelConfig& config);

}  // namespace mpo::model
