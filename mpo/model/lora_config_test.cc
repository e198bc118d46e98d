// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/lora_config.h"

#include <catch2/catch.hpp>

#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using Layers = std::vector<int64_t>;

ModelConfig Tiny() {
  ModelConfig c;
  c.layers = 3;
  return c;
}

LoraConfig Parsed(const nlohmann::json& changes) {
  auto json = nlohmann::json::parse(ToPeftJson({}, Tiny()));
  json.merge_patch(changes);
  const auto config = ParsePeftJson(json.dump(), Tiny(), "f");
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  return *config;
}

TEST_CASE("a LoRA configuration goes through PEFT's JSON and back", "[lora]") {
  LoraConfig config{.rank = 3,
                    .alpha = 5,
                    .layers = 2,
                    .target_modules = {"q_proj", "lm_head"},
                    .rank_stabilised = true};
  config.dropout = 0.25;
  CHECK(*ParsePeftJson(ToPeftJson(config, Tiny()), Tiny(), "f") == config);
  config.layers = 0;
  config.layer_indices = {0, 2};
  CHECK(*ParsePeftJson(ToPeftJson(config, Tiny()), Tiny(), "f") == config);
  const LoraConfig head{.target_modules = {"lm_head"}};
  CHECK(AdaptedLayers(head, Tiny()).empty());
  CHECK(*ParsePeftJson(ToPeftJson(head, Tiny()), Tiny(), "f") == head);
}

TEST_CASE("layers_to_transform may be a number, a list in any order or nothing",
          "[lora]") {
  CHECK(Parsed({{"layers_to_transform", 2}}).layers == 1);
  CHECK(Parsed({{"layers_to_transform", {2, 1}}}).layers == 2);
  CHECK(Parsed({{"layers_to_transform", {2, 0}}}).layer_indices ==
        Layers{0, 2});
  CHECK(Parsed({{"layers_to_transform", {0, 1, 2}}}) == LoraConfig{});
  CHECK(Parsed({{"layers_to_transform", Layers{}}}) == LoraConfig{});
  CHECK(AdaptedLayers({.layers = 2}, Tiny()) == Layers{1, 2});
  CHECK(AdaptedLayers({}, Tiny()) == Layers{0, 1, 2});
}

TEST_CASE("keys of PEFT that change nothing are taken", "[lora]") {
  const LoraConfig config =
      Parsed({{"peft_version", "0.15.2"},
              {"init_lora_weights", "gaussian"},
              {"megatron_core", "megatron.core"},
              {"a_new_switch", false},
              {"another_pattern", nlohmann::json::object()},
              {"target_modules", {"mlp.up_proj", "self_attn.k_proj"}}});
  CHECK(config.target_modules == std::vector<std::string>{"k_proj", "up_proj"});
}

TEST_CASE("layer indices that are not ascending layers are refused", "[lora]") {
  LoraConfig config;
  for (const Layers& bad :
       {Layers{1, 0}, Layers{1, 1}, Layers{3}, Layers{-1}}) {
    config.layer_indices = bad;
    CHECK_FALSE(ValidateLora(config, Tiny()).ok());
  }
  config.layer_indices = {1};
  CHECK(ValidateLora(config, Tiny()).ok());
  config.layers = 1;
  CHECK_FALSE(ValidateLora(config, Tiny()).ok());
}

TEST_CASE("PEFT configurations that are not supported are refused by key",
          "[lora]") {
  const std::string good = ToPeftJson({}, Tiny());
  CHECK(ParsePeftJson(good, Tiny(), "f").ok());
  auto expect = [&](const char* key, nlohmann::json value) {
    auto json = nlohmann::json::parse(good);
    json[key] = value;
    const auto status = ParsePeftJson(json.dump(), Tiny(), "f").status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(std::string(status.message()), Catch::Contains(key));
  };
  expect("peft_type", "IA3");
  expect("use_dora", true);
  expect("bias", "all");
  expect("r", "8");
  expect("lora_alpha", nullptr);
  expect("lora_dropout", "high");
  expect("use_rslora", "yes");
  expect("target_modules", {"q_proj", "embed_tokens"});
  expect("target_modules", {"q_proj", "self_attn.q_proj"});
  expect("target_modules", ".*_proj");
  expect("target_modules", nlohmann::json::array());
  expect("modules_to_save", {"lm_head"});
  expect("rank_pattern", {{"q_proj", 3}});
  expect("alpha_pattern", {{"q_proj", 3}});
  expect("layers_to_transform", {0, 3});
  expect("layers_to_transform", {-1});
  expect("layers_pattern", "h");
  expect("layer_replication", {{0, 2}});
  expect("init_lora_weights", "pissa");
  expect("lora_bias", true);
  expect("some_new_method", 3);
  CHECK(!ParsePeftJson("[", Tiny(), "f").ok());
  CHECK(!ParsePeftJson(std::string(100000, '['), Tiny(), "f").ok());
}

}  // namespace
}  // namespace mpo::model
