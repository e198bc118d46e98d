// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/model_config.h"

#include <catch2/catch.hpp>

#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

Json Good() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"vocab_size", 100},
          {"hidden_size", 32},
          {"intermediate_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 128},
          {"hidden_act", "silu"},
          {"eos_token_id", 2},
          {"_name_or_path", "x"},
          {"transformers_version", "4.51.3"}};
}

absl::StatusOr<ModelConfig> Parse(const Json& json,
                                  const std::string& generation = "") {
  return ParseModelConfig(json.dump(), generation, "config.json");
}

TEST_CASE("a configuration parses, prints and parses to the same", "[config]") {
  Json json = Good();
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 64}};
  auto config = Parse(json, R"({"eos_token_id": [2, 7], "temperature": 0.6})");
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  CHECK(config->head_dim == 8);
  CHECK(config->eos_tokens == std::vector<int32_t>{2, 7});
  CHECK(config->rope_scaling->factor == 8.0);
  auto again = ParseModelConfig(ToJson(*config), "", "again");
  INFO(again.status().ToString());
  REQUIRE(again.ok());
  CHECK(*again == *config);
}

TEST_CASE("every key that is bad is refused by name", "[config]") {
  auto expect = [](const char* key, Json value, const char* text) {
    Json json = Good();
    json[key] = value;
    const auto status = Parse(json).status();
    INFO(key);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(std::string(status.message()), Catch::Contains(text));
  };
  expect("architectures", {"MambaForCausalLM"}, "MambaForCausalLM");
  expect("architectures", nullptr, "architectures");
  expect("vocab_size", 0, "vocab_size");
  expect("vocab_size", "many", "vocab_size");
  expect("vocab_size", 1LL << 40, "vocab_size");
  expect("hidden_size", nullptr, "hidden_size");
  expect("num_key_value_heads", 3, "heads");
  expect("head_dim", 7, "even");
  expect("rope_theta", -1, "rope_theta");
  expect("rms_norm_eps", 0, "rms_norm_eps");
  expect("hidden_act", "gelu", "hidden_act");
  expect("attention_bias", true, "attention_bias");
  expect("mlp_bias", true, "mlp_bias");
  expect("use_sliding_window", true, "use_sliding_window");
  expect("quantization_config", {{"bits", 4}}, "quantization_config");
  expect("attn_logit_softcapping", 50.0, "attn_logit_softcapping");
  expect("eos_token_id", -3, "eos_token_id");
  expect("eos_token_id", 100, "eos token 100");
  expect("tie_word_embeddings", "yes", "tie_word_embeddings");
  expect("rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}, "yarn");
  expect("rope_scaling", {{"rope_type", "linear"}, {"factor", 0.5}},
         "rope_scaling");
  expect("rope_scaling", {{"rope_type", "linear"}, {"factor", 2}, {"beta", 1}},
         "beta");
  expect("rope_scaling", 3, "rope_scaling");
  expect("rope_scaling", {{"rope_type", "dynamic"}}, "factor");
  expect("rope_scaling",
         {{"rope_type", "dynamic"},
          {"factor", 2},
          {"original_max_position_embeddings", 64}},
         "expected 128 (nothing else is supported), found 64");
  expect("rope_scaling",
         {{"rope_type", "llama3"},
          {"factor", 8.0},
          {"low_freq_factor", 4.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 64}},
         "high_freq_factor");
  expect("model_type", "qwen2", "expected \"llama\"");
  expect("partial_rotary_factor", 0.5, "partial_rotary_factor");
  expect("layer_types", {"full_attention", "sliding_attention"}, "layer_types");
  expect("hidden_act", "gelu", "config.json: key 'hidden_act': expected");
  expect("no_such_key", 7, "key 'no_such_key': expected it not to be there");
  CHECK(!ParseModelConfig("{", "", "f").ok());
  CHECK(!ParseModelConfig(Good().dump(), "[]", "f").ok());
  CHECK(!Parse(Good(), R"({"eos_token_id": "x"})").ok());
}

Json Qwen3() {
  Json json = Good();
  json["architectures"] = {"Qwen3ForCausalLM"};
  json["model_type"] = "qwen3";
  json["head_dim"] = 16;
  return json;
}

TEST_CASE("Qwen3 has norms on q and k, no biases and a head size of its own",
          "[config]") {
  const auto config = Parse(Qwen3());
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  CHECK(config->qk_norm());
  CHECK_FALSE(config->qkv_bias());
  CHECK(config->head_dim == 16);
  CHECK(*ParseModelConfig(ToJson(*config), "", "again") == *config);
  // Where transformers has a number of its own, nothing is guessed.
  for (const char* key : {"head_dim", "num_key_value_heads"}) {
    Json json = Qwen3();
    json.erase(key);
    CHECK_THAT(std::string(Parse(json).status().message()),
               Catch::Contains(key));
  }
}

TEST_CASE("a sliding window is refused exactly where it takes effect",
          "[config]") {
  auto windowed = [](bool use, const Json& window, int first_layer) {
    Json json = Qwen3();
    json["use_sliding_window"] = use;
    json["sliding_window"] = window;
    json["max_window_layers"] = first_layer;
    return Parse(json).status();
  };
  CHECK(windowed(false, 16, 0).ok());
  CHECK(windowed(true, nullptr, 0).ok());
  CHECK(windowed(true, 16, 2).ok());   // No layer is that high.
  CHECK(windowed(true, 128, 0).ok());  // The context is 128.
  const absl::Status status = windowed(true, 127, 1);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(status.message()), Catch::Contains("sliding_window"));
  Json llama = Good();
  llama["sliding_window"] = 4;  // Llama has none: transformers ignores it.
  CHECK(Parse(llama).ok());
}

TEST_CASE("dynamic and linear scaling parse, print and parse to the same",
          "[config]") {
  for (const char* type : {"linear", "dynamic"}) {
    Json json = Good();
    json["rope_scaling"] = {{"type", type}, {"factor", 4}};
    const auto config = Parse(json);
    INFO(config.status().ToString());
    REQUIRE(config.ok());
    CHECK(*ParseModelConfig(ToJson(*config), "", "again") == *config);
  }
  Json json = Good();
  json["rope_scaling"] = {{"rope_type", "default"}};
  CHECK_FALSE(Parse(json)->rope_scaling.has_value());
}

TEST_CASE("hostile configurations are refused, not run", "[config]") {
  auto refused = [](const std::string& text) {
    CHECK(ParseModelConfig(text, "", "f").status().code() ==
          absl::StatusCode::kInvalidArgument);
  };
  refused(std::string(100'000, '['));
  refused("{\"architectures\":" + std::string(100'000, '[') + "}");
  refused("{\"\xff\":1}");
  Json json = Good();
  json["vocab_size"] = 18446744073709551615ULL;
  refused(json.dump());
  json = Good();
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size"})
    json[key] = 1 << 24;
  json["num_hidden_layers"] = 4096;
  refused(json.dump());
}

TEST_CASE("a directory without config.json is NOT_FOUND by path", "[config]") {
  auto status = LoadModelConfig("/nonexistent/model").status();
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK_THAT(std::string(status.message()),
             Catch::Contains("/nonexistent/model: expected a Hugging Face"));
  status = LoadModelConfig("/proc/self/fdinfo").status();
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK_THAT(std::string(status.message()),
             Catch::Contains("/proc/self/fdinfo/config.json"));
}

TEST_CASE("parameters() counts the weights", "[config]") {
  auto config = Parse(Good());
  REQUIRE(config.ok());
  // Two layers of q, o (32x32), k, v (16x32), three 64x32 and two norms; the
  // last norm; embedding and head.
  CHECK(config->parameters() ==
        2 * (2 * 1024 + 2 * 512 + 3 * 2048 + 64) + 32 + 2 * 3200);
}

}  // namespace
}  // namespace mpo::model
