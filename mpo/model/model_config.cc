// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/model_config.h"

#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/model/config_fields.h"
#include "mpo/text/json_file.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxDimension = int64_t{1} << 24;

// Keys that say nothing about the forward pass of a decoder in evaluation.
const std::set<std::string>& NeutralKeys() {
  static const auto& keys =
      *new std::set<std::string>{"torch_dtype",       "dtype",
                                 "use_cache",         "attention_dropout",
                                 "is_llama_config",   "name_or_path",
                                 "output_attentions", "output_hidden_states",
                                 "return_dict",       "unsloth_fixed",
                                 "unsloth_version",   "auto_map"};
  return keys;
}

std::optional<RopeScaling> ReadRopeScaling(ConfigFields& parent,
                                           int64_t context) {
  const Json* json = parent.Find("rope_scaling");
  if (json == nullptr) return std::nullopt;
  if (!json->is_object()) {
    parent.Wrong("rope_scaling", "an object", *json);
    return std::nullopt;
  }
  ConfigFields fields(*json, "key 'rope_scaling'");
  const char* type_key = json->contains("rope_type") ? "rope_type" : "type";
  const std::string type = fields.String(type_key);
  fields.Find("type");
  if (type == "default") return std::nullopt;
  RopeScaling scaling;
  scaling.factor = fields.Number("factor");
  if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor = fields.Number("low_freq_factor");
    scaling.high_freq_factor = fields.Number("high_freq_factor");
    scaling.original_context = fields.Int("original_max_position_embeddings");
  } else if (type == "dynamic") {
    scaling.kind = RopeScaling::Kind::kDynamic;
    // transformers takes max_position_embeddings whatever this says.
    fields.Only("original_max_position_embeddings", context);
  } else if (type != "linear") {
    fields.Wrong(type_key, "default, linear, dynamic or llama3", type);
  }
  if (absl::Status status = fields.Finish({}); !status.ok()) {
    parent.Fail(std::string(status.message()));
  }
  return scaling;
}

struct ArchitectureName {
  Architecture architecture;
  const char* name;
  const char* model_type;
};
constexpr ArchitectureName kArchitectures[] = {
    {Architecture::kLlama, "LlamaForCausalLM", "llama"},
    {Architecture::kQwen2, "Qwen2ForCausalLM", "qwen2"},
    {Architecture::kQwen3, "Qwen3ForCausalLM", "qwen3"},
};

const ArchitectureName& NameOf(Architecture architecture) {
  for (const ArchitectureName& entry : kArchitectures) {
    if (entry.architecture == architecture) return entry;
  }
  return kArchitectures[0];
}

absl::StatusOr<Architecture> ReadArchitecture(ConfigFields& fields) {
  const Json* list = fields.Find("architectures");
  for (const ArchitectureName& entry : kArchitectures) {
    if (list == nullptr || *list != Json::array({entry.name})) continue;
    fields.Only("model_type", entry.model_type);
    return entry.architecture;
  }
  fields.Wrong("architectures",
               "[\"LlamaForCausalLM\"], [\"Qwen2ForCausalLM\"] or "
               "[\"Qwen3ForCausalLM\"]",
               list == nullptr ? Json() : *list);
  return fields.Finish({});
}

void ReadShape(ConfigFields& fields, const Json& json, ModelConfig& c) {
  c.vocab_size = fields.Int("vocab_size");
  c.hidden_size = fields.Int("hidden_size");
  c.intermediate_size = fields.Int("intermediate_size");
  c.layers = fields.Int("num_hidden_layers");
  c.heads = fields.Int("num_attention_heads");
  c.context = fields.Int("max_position_embeddings");
  // Where transformers would put a number of its own (32 key-value heads for
  // Qwen, heads of 128 for Qwen3), the key must be there.
  const bool llama = c.architecture == Architecture::kLlama;
  std::optional<int64_t> kv_heads = c.heads;
  if (!llama && !json.contains("num_key_value_heads")) kv_heads.reset();
  c.kv_heads = fields.Int("num_key_value_heads", kv_heads);
  std::optional<int64_t> head_dim = c.heads > 0 ? c.hidden_size / c.heads : 0;
  if (c.qk_norm()) head_dim.reset();
  c.head_dim = fields.Int("head_dim", head_dim);
}

// Qwen attends within a window where use_sliding_window is set, sliding_window
// is not null and a layer at or above max_window_layers exists; it takes effect
// only if it is shorter than the context. Llama knows no window.
void RefuseSlidingWindow(ConfigFields& fields, const ModelConfig& c) {
  if (c.architecture == Architecture::kLlama) {
    fields.Only("use_sliding_window", false);
    fields.Find("sliding_window");
    fields.Find("max_window_layers");
  } else {
    const bool used = fields.Bool("use_sliding_window", false);
    const Json* window = fields.Find("sliding_window");
    const int64_t size = fields.Int("sliding_window", 0);
    const int64_t first = fields.Int("max_window_layers", 28);
    if (used && window != nullptr && first < c.layers && size < c.context) {
      fields.Wrong("use_sliding_window",
                   absl::StrCat("false, or a sliding_window of at least ",
                                c.context, " or max_window_layers of at least ",
                                c.layers, " so that it has no effect"),
                   *window);
    }
  }
  const Json* types = fields.Find("layer_types");
  if (types == nullptr) return;
  bool full = types->is_array();
  for (const Json& type : *types) full = full && type == "full_attention";
  if (!full) {
    fields.Wrong("layer_types", "a list of \"full_attention\" only", *types);
  }
}

absl::Status Positive(const char* name, int64_t value,
                      int64_t limit = kMaxDimension) {
  if (value >= 1 && value <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "model config: ", name, ": expected 1 to ", limit, ", found ", value));
}

absl::Status ValidateScaling(const RopeScaling& s, int64_t head_dim) {
  auto bad = [](const char* field, const char* expected, double found) {
    return absl::InvalidArgumentError(
        absl::StrCat("model config: rope_scaling: ", field, ": expected ",
                     expected, ", found ", found));
  };
  if (!(s.factor >= 1) || !std::isfinite(s.factor))
    return bad("factor", "at least 1", s.factor);
  if (s.kind == RopeScaling::Kind::kDynamic && head_dim < 4) {
    return bad("dynamic scaling", "a head_dim of at least 4",
               static_cast<double>(head_dim));
  }
  if (s.kind != RopeScaling::Kind::kLlama3) return absl::OkStatus();
  if (!(s.low_freq_factor > 0))
    return bad("low_freq_factor", "more than 0", s.low_freq_factor);
  if (!(s.high_freq_factor > s.low_freq_factor) ||
      !std::isfinite(s.high_freq_factor)) {
    return bad("high_freq_factor", "more than low_freq_factor",
               s.high_freq_factor);
  }
  if (s.original_context < 1) {
    return bad("original_max_position_embeddings", "at least 1",
               static_cast<double>(s.original_context));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t ModelConfig::parameters() const {
  const int64_t qkv = q_size() + 2 * kv_size();
  const int64_t layer =
      hidden_size * (qkv + q_size() + 3 * intermediate_size + 2) +
      (qkv_bias() ? qkv : 0) + (qk_norm() ? 2 * head_dim : 0);
  return layers * layer + hidden_size +
         vocab_size * hidden_size * (tie_embeddings ? 1 : 2);
}

absl::Status Validate(const ModelConfig& c) {
  MPO_RETURN_IF_ERROR(Positive("vocab_size", c.vocab_size));
  MPO_RETURN_IF_ERROR(Positive("hidden_size", c.hidden_size));
  MPO_RETURN_IF_ERROR(Positive("intermediate_size", c.intermediate_size));
  MPO_RETURN_IF_ERROR(Positive("num_hidden_layers", c.layers, 4096));
  MPO_RETURN_IF_ERROR(Positive("num_attention_heads", c.heads, 65536));
  MPO_RETURN_IF_ERROR(Positive("num_key_value_heads", c.kv_heads, c.heads));
  MPO_RETURN_IF_ERROR(Positive("head_dim", c.head_dim, 1024));
  MPO_RETURN_IF_ERROR(Positive("max_position_embeddings", c.context));
  if (c.heads % c.kv_heads != 0 || c.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("model config: ", c.heads, " heads over ", c.kv_heads,
                     " key-value heads of size ", c.head_dim,
                     ": expected a whole number of heads a key-value head and "
                     "an even size"));
  }
  if (!(c.rope_theta > 0) || !(c.rms_norm_eps > 0) ||
      !std::isfinite(c.rope_theta)) {
    return absl::InvalidArgumentError(
        "model config: rope_theta and rms_norm_eps must be positive");
  }
  if (c.rope_scaling.has_value()) {
    MPO_RETURN_IF_ERROR(ValidateScaling(*c.rope_scaling, c.head_dim));
  }
  const double qkvo = static_cast<double>(2 * (c.q_size() + c.kv_size()));
  const double weights =
      static_cast<double>(c.hidden_size) *
      (static_cast<double>(c.layers) *
           (qkvo + 3.0 * static_cast<double>(c.intermediate_size)) +
       2.0 * static_cast<double>(c.vocab_size));
  if (weights > 1e13) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model config: expected at most 1e13 weights, found about ", weights));
  }
  for (int32_t token : c.eos_tokens) {
    if (token < 0 || token >= c.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("model config: eos token ", token,
                       " is outside the vocabulary of ", c.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config_json,
                                             std::string_view generation_json,
                                             std::string_view source_name) {
  const std::string source(source_name);
  MPO_ASSIGN_OR_RETURN(const Json json,
                       text::ParseJsonObject(config_json, source));
  ConfigFields fields(json, source);
  ModelConfig c;
  MPO_ASSIGN_OR_RETURN(c.architecture, ReadArchitecture(fields));
  ReadShape(fields, json, c);
  c.rope_theta = fields.Number("rope_theta", 10000.0);
  c.rope_scaling = ReadRopeScaling(fields, c.context);
  c.rms_norm_eps = fields.Number("rms_norm_eps", 1e-6);
  c.initializer_range = fields.Number("initializer_range", 0.02);
  c.tie_embeddings = fields.Bool("tie_word_embeddings", false);
  c.eos_tokens = fields.Tokens("eos_token_id");
  if (auto bos = fields.Tokens("bos_token_id"); !bos.empty())
    c.bos_token = bos.front();
  if (auto pad = fields.Tokens("pad_token_id"); !pad.empty())
    c.pad_token = pad.front();
  fields.Only("hidden_act", "silu");
  fields.Only("attention_bias", false);
  fields.Only("mlp_bias", false);
  fields.Only("pretraining_tp", 1);
  fields.Only("rope_interleaved", false);
  fields.Only("partial_rotary_factor", 1.0);
  RefuseSlidingWindow(fields, c);
  MPO_RETURN_IF_ERROR(fields.Finish(NeutralKeys()));
  if (!generation_json.empty()) {
    const std::string generation_source =
        absl::StrCat(source, " (generation_config.json)");
    MPO_ASSIGN_OR_RETURN(
        const Json generation,
        text::ParseJsonObject(generation_json, generation_source));
    ConfigFields generation_fields(generation, generation_source);
    const auto eos = generation_fields.Tokens("eos_token_id");
    MPO_RETURN_IF_ERROR(generation_fields.FirstError());
    if (!eos.empty()) c.eos_tokens = eos;
  }
  if (absl::Status status = Validate(c); !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(source, ": ", status.message()));
  }
  return c;
}

absl::StatusOr<ModelConfig> LoadModelConfig(
    const std::filesystem::path& directory) {
  MPO_RETURN_IF_ERROR(
      CheckDirectory(directory, "a Hugging Face model directory"));
  const std::filesystem::path file = directory / "config.json";
  MPO_ASSIGN_OR_RETURN(std::string config, ReadFile(file, kMaxConfigBytes));
  auto generation =
      ReadFile(directory / "generation_config.json", kMaxConfigBytes);
  if (!generation.ok() && !absl::IsNotFound(generation.status()))
    return generation.status();
  return ParseModelConfig(config, generation.ok() ? *generation : std::string(),
                          file.string());
}

std::string ToJson(const ModelConfig& c) {
  const ArchitectureName& name = NameOf(c.architecture);
  Json json = {{"architectures", {name.name}},
               {"model_type", name.model_type},
               {"vocab_size", c.vocab_size},
               {"hidden_size", c.hidden_size},
               {"intermediate_size", c.intermediate_size},
               {"num_hidden_layers", c.layers},
               {"num_attention_heads", c.heads},
               {"num_key_value_heads", c.kv_heads},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.context},
               {"rope_theta", c.rope_theta},
               {"rms_norm_eps", c.rms_norm_eps},
               {"initializer_range", c.initializer_range},
               {"hidden_act", "silu"},
               {"tie_word_embeddings", c.tie_embeddings}};
  if (c.eos_tokens.size() == 1) {
    json["eos_token_id"] = c.eos_tokens.front();
  } else if (!c.eos_tokens.empty()) {
    json["eos_token_id"] = c.eos_tokens;
  }
  if (c.bos_token >= 0) json["bos_token_id"] = c.bos_token;
  if (c.pad_token >= 0) json["pad_token_id"] = c.pad_token;
  if (c.rope_scaling.has_value()) {
    const RopeScaling& s = *c.rope_scaling;
    json["rope_scaling"] = {{"factor", s.factor}};
    Json& scaling = json["rope_scaling"];
    switch (s.kind) {
      case RopeScaling::Kind::kLinear:
        scaling["rope_type"] = "linear";
        break;
      case RopeScaling::Kind::kDynamic:
        scaling["rope_type"] = "dynamic";
        break;
      case RopeScaling::Kind::kLlama3:
        scaling["rope_type"] = "llama3";
        scaling["low_freq_factor"] = s.low_freq_factor;
        scaling["high_freq_factor"] = s.high_freq_factor;
        scaling["original_max_position_embeddings"] = s.original_context;
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace mpo::model
