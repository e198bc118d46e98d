// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/model_config.h"

#include <cmath>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxDimension = int64_t{1} << 24;

// Keys that say nothing about the forward pass of a decoder in evaluation.
const std::set<std::string>& NeutralKeys() {
  static const auto& keys =
      *new std::set<std::string>{"architectures",     "model_type",
                                 "torch_dtype",       "dtype",
                                 "use_cache",         "bos_token_id",
                                 "eos_token_id",      "pad_token_id",
                                 "initializer_range", "attention_dropout",
                                 "is_llama_config",   "max_window_layers",
                                 "sliding_window",    "name_or_path",
                                 "output_attentions", "output_hidden_states",
                                 "return_dict",       "unsloth_fixed",
                                 "unsloth_version",   "auto_map"};
  return keys;
}

// A reader of one JSON object that remembers the first error and which keys
// were asked for.
class Fields {
 public:
  Fields(const Json& object, std::string source)
      : object_(object), source_(std::move(source)) {}

  int64_t Int(const char* key, std::optional<int64_t> absent = std::nullopt) {
    const Json* value = Find(key);
    if (value == nullptr) return Absent<int64_t>(key, absent);
    if (!value->is_number_integer())
      return Wrong<int64_t>(key, "an integer", *value);
    return value->get<int64_t>();
  }
  double Number(const char* key, std::optional<double> absent = std::nullopt) {
    const Json* value = Find(key);
    if (value == nullptr) return Absent<double>(key, absent);
    if (!value->is_number()) return Wrong<double>(key, "a number", *value);
    return value->get<double>();
  }
  bool Bool(const char* key, bool absent) {
    const Json* value = Find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) return Wrong<bool>(key, "true or false", *value);
    return value->get<bool>();
  }
  std::string String(const char* key,
                     std::optional<std::string> absent = std::nullopt) {
    const Json* value = Find(key);
    if (value == nullptr) return Absent<std::string>(key, absent);
    if (!value->is_string()) return Wrong<std::string>(key, "a string", *value);
    return value->get<std::string>();
  }
  // Token id or list of them; null = none.
  std::vector<int32_t> Tokens(const char* key) {
    const Json* value = Find(key);
    std::vector<int32_t> tokens;
    if (value == nullptr) return tokens;
    for (const Json& item :
         value->is_array() ? *value : Json::array({*value})) {
      if (!item.is_number_integer() || item.get<int64_t>() < 0 ||
          item.get<int64_t>() > INT32_MAX) {
        Wrong<int>(key, "a token id or a list of them", *value);
        return {};
      }
      tokens.push_back(item.get<int32_t>());
    }
    return tokens;
  }
  // The key may only be absent, null or equal to `value`.
  void Only(const char* key, const Json& value) {
    const Json* found = Find(key);
    if (found != nullptr && *found != value) {
      Wrong<int>(key,
                 absl::StrCat(value.dump(), " (nothing else is supported)"),
                 *found);
    }
  }
  const Json* Find(const char* key) {
    known_.insert(key);
    auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  void Fail(std::string message) {
    if (status_.ok())
      status_ =
          absl::InvalidArgumentError(absl::StrCat(source_, ": ", message));
  }
  absl::Status FirstUnknown() {
    for (const auto& [key, value] : object_.items()) {
      if (known_.count(key) == 0 && NeutralKeys().count(key) == 0 &&
          !value.is_null() && !absl::StartsWith(key, "_") &&
          !absl::StartsWith(key, "transformers")) {
        Fail(absl::StrCat("key '", key,
                          "' is not known; it may change the mathematics"));
      }
    }
    return status_;
  }

 private:
  template <typename T>
  T Absent(const char* key, const std::optional<T>& absent) {
    if (!absent.has_value()) Fail(absl::StrCat("key '", key, "' is missing"));
    return absent.value_or(T{});
  }
  template <typename T>
  T Wrong(const char* key, const std::string& expected, const Json& found) {
    Fail(absl::StrCat("key '", key, "': expected ", expected, ", found ",
                      found.dump(-1, ' ', true, Json::error_handler_t::replace)
                          .substr(0, 80)));
    return T{};
  }

  const Json& object_;
  std::string source_;
  std::set<std::string> known_;
  absl::Status status_;
};

absl::StatusOr<Json> ParseObject(std::string_view text,
                                 const std::string& source) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected a JSON object"));
  }
  return json;
}

std::optional<RopeScaling> ReadRopeScaling(const Json* json, Fields& parent) {
  if (json == nullptr) return std::nullopt;
  if (!json->is_object()) {
    parent.Fail("key 'rope_scaling': expected an object");
    return std::nullopt;
  }
  Fields fields(*json, "rope_scaling");
  const bool named_type = json->contains("rope_type");
  const std::string type = fields.String(named_type ? "rope_type" : "type");
  fields.Find("type");
  RopeScaling scaling;
  if (type == "default") return std::nullopt;
  scaling.factor = fields.Number("factor");
  if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor = fields.Number("low_freq_factor");
    scaling.high_freq_factor = fields.Number("high_freq_factor");
    scaling.original_context = fields.Int("original_max_position_embeddings");
  } else if (type != "linear") {
    fields.Fail(absl::StrCat("type '", type,
                             "' is not supported; expected linear or llama3"));
  }
  if (absl::Status status = fields.FirstUnknown(); !status.ok()) {
    parent.Fail(std::string(status.message()));
  }
  return scaling;
}

absl::StatusOr<Architecture> ReadArchitecture(Fields& fields,
                                              const std::string& source) {
  std::string name;
  const Json* list = fields.Find("architectures");
  if (list != nullptr && list->is_array() && list->size() == 1 &&
      list->front().is_string()) {
    name = list->front().get<std::string>();
  }
  if (name == "LlamaForCausalLM") return Architecture::kLlama;
  if (name == "Qwen2ForCausalLM") return Architecture::kQwen2;
  return absl::InvalidArgumentError(absl::StrCat(
      source, ": key 'architectures': expected [\"LlamaForCausalLM\"] or ",
      "[\"Qwen2ForCausalLM\"], found ",
      list == nullptr ? "nothing" : list->dump()));
}

absl::Status Positive(const char* name, int64_t value,
                      int64_t limit = kMaxDimension) {
  if (value >= 1 && value <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "model config: ", name, ": expected 1 to ", limit, ", found ", value));
}

}  // namespace

int64_t ModelConfig::parameters() const {
  const int64_t qkv = q_size() + 2 * kv_size();
  const int64_t layer =
      hidden_size * (qkv + q_size() + 3 * intermediate_size + 2) +
      (qkv_bias() ? qkv : 0);
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
    const RopeScaling& s = *c.rope_scaling;
    if (!(s.factor >= 1) ||
        (s.kind == RopeScaling::Kind::kLlama3 &&
         (!(s.low_freq_factor > 0) || s.original_context < 1 ||
          !(s.high_freq_factor > s.low_freq_factor)))) {
      return absl::InvalidArgumentError(
          "model config: rope_scaling is out of range");
    }
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
  MPO_ASSIGN_OR_RETURN(Json json, ParseObject(config_json, source));
  Fields fields(json, source);
  ModelConfig c;
  MPO_ASSIGN_OR_RETURN(c.architecture, ReadArchitecture(fields, source));
  c.vocab_size = fields.Int("vocab_size");
  c.hidden_size = fields.Int("hidden_size");
  c.intermediate_size = fields.Int("intermediate_size");
  c.layers = fields.Int("num_hidden_layers");
  c.heads = fields.Int("num_attention_heads");
  c.kv_heads = fields.Int("num_key_value_heads", c.heads);
  c.head_dim =
      fields.Int("head_dim", c.heads > 0 ? c.hidden_size / c.heads : 0);
  c.context = fields.Int("max_position_embeddings");
  c.rope_theta = fields.Number("rope_theta", 10000.0);
  c.rope_scaling = ReadRopeScaling(fields.Find("rope_scaling"), fields);
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
  fields.Only("use_sliding_window", false);
  MPO_RETURN_IF_ERROR(fields.FirstUnknown());
  if (!generation_json.empty()) {
    const std::string generation_source =
        absl::StrCat(source, " (generation_config.json)");
    MPO_ASSIGN_OR_RETURN(Json generation,
                         ParseObject(generation_json, generation_source));
    Fields generation_fields(generation, generation_source);
    if (auto eos = generation_fields.Tokens("eos_token_id"); !eos.empty())
      c.eos_tokens = eos;
  }
  if (absl::Status status = Validate(c); !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(source, ": ", status.message()));
  }
  return c;
}

absl::StatusOr<ModelConfig> LoadModelConfig(
    const std::filesystem::path& directory) {
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
  const bool llama = c.architecture == Architecture::kLlama;
  Json json = {
      {"architectures", {llama ? "LlamaForCausalLM" : "Qwen2ForCausalLM"}},
      {"model_type", llama ? "llama" : "qwen2"},
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
    const bool llama3 = s.kind == RopeScaling::Kind::kLlama3;
    json["rope_scaling"]["rope_type"] = llama3 ? "llama3" : "linear";
    if (llama3) {
      json["rope_scaling"]["low_freq_factor"] = s.low_freq_factor;
      json["rope_scaling"]["high_freq_factor"] = s.high_freq_factor;
      json["rope_scaling"]["original_max_position_embeddings"] =
          s.original_context;
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace mpo::model
