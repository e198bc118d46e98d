// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/lora.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "mpo/model/decoder.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

ModelConfig Tiny() {
  ModelConfig c;
  c.vocab_size = 50;
  c.hidden_size = 16;
  c.intermediate_size = 24;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 4;
  c.context = 32;
  return c;
}

TEST_CASE(
    "a new adapter is the identity, of the asked size and the seed's alone",
    "[lora]") {
  auto base = LanguageModel::Random(Tiny(), 1);
  auto adapter =
      LoraAdapter::Create({.rank = 4, .alpha = 8, .layers = 2}, Tiny(), 9);
  REQUIRE(adapter.ok());
  CHECK((*adapter)->first_layer() == 1);
  CHECK((*adapter)->scale() == 2.0);
  const auto parameters = (*adapter)->Parameters();
  REQUIRE(parameters.size() == 2 * 7 * 2);
  CHECK(parameters[0].name ==
        "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight");
  CHECK(parameters[0].tensor.sizes() == at::IntArrayRef({4, 16}));
  CHECK(parameters[0].tensor.requires_grad());
  CHECK(parameters[0].tensor.std().item<double>() == Approx(0.25).epsilon(0.4));
  CHECK(parameters[1].tensor.abs().max().item<double>() == 0);
  auto batch = PadSequences({{1, 2, 3}});
  CHECK(at::equal(Forward(**base, adapter->get(), *batch),
                  Forward(**base, nullptr, *batch)));
  auto again =
      LoraAdapter::Create({.rank = 4, .alpha = 8, .layers = 2}, Tiny(), 9);
  CHECK(*(*adapter)->Digest() == *(*again)->Digest());
  auto other =
      LoraAdapter::Create({.rank = 4, .alpha = 8, .layers = 2}, Tiny(), 10);
  CHECK(*(*adapter)->Digest() != *(*other)->Digest());
}

TEST_CASE("Save and Load keep every bit and the configuration", "[lora]") {
  const auto directory =
      std::filesystem::path(MPO_BINARY_DIR) / "lora_test_saved";
  LoraConfig config{.rank = 3,
                    .alpha = 5,
                    .layers = 1,
                    .target_modules = {"q_proj", "down_proj"}};
  config.rank_stabilised = true;
  auto adapter = LoraAdapter::Create(config, Tiny(), 2);
  REQUIRE(adapter.ok());
  REQUIRE((*adapter)->Save(directory).ok());
  auto back = LoraAdapter::Load(directory, Tiny());
  INFO(back.status().ToString());
  REQUIRE(back.ok());
  CHECK((*back)->config() == config);
  CHECK(*(*back)->Digest() == *(*adapter)->Digest());
  CHECK((*back)->scale() == Approx(5 / std::sqrt(3.0)));
  std::filesystem::remove(directory / "adapter_model.safetensors");
  CHECK(LoraAdapter::Load(directory, Tiny()).status().code() ==
        absl::StatusCode::kNotFound);
  std::filesystem::remove_all(directory);
}

TEST_CASE("a clone does not follow training", "[lora]") {
  auto adapter = LoraAdapter::Create({.rank = 2}, Tiny(), 2);
  auto clone = (*adapter)->Clone();
  REQUIRE(clone.ok());
  const std::string digest = *(*clone)->Digest();
  {
    at::NoGradGuard no_grad;
    for (auto& named : (*adapter)->Parameters()) named.tensor.add_(1);
  }
  CHECK(*(*clone)->Digest() == digest);
  CHECK(*(*adapter)->Digest() != digest);
}

TEST_CASE("bad configurations are refused by field", "[lora]") {
  auto expect = [](LoraConfig config, const char* text) {
    const auto status = LoraAdapter::Create(config, Tiny(), 1).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(std::string(status.message()), Catch::Contains(text));
  };
  expect({.rank = 0}, "rank");
  expect({.alpha = 0}, "alpha");
  expect({.layers = 4}, "layers");
  expect({.target_modules = {}}, "target_modules");
  expect({.target_modules = {"lm_head"}}, "lm_head");
  expect({.target_modules = {"q_proj", "q_proj"}}, "twice");
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
  expect("target_modules", {"q_proj", "lm_head"});
  expect("modules_to_save", {"lm_head"});
  expect("rank_pattern", {{"q_proj", 3}});
  expect("layers_to_transform", {0, 1});
  CHECK(!ParsePeftJson("[", Tiny(), "f").ok());
}

TEST_CASE("FromTensors and CheckFits name what differs", "[lora]") {
  auto adapter = LoraAdapter::Create({.rank = 2}, Tiny(), 1);
  auto tensors = (*adapter)->Parameters();
  CHECK(LoraAdapter::FromTensors({.rank = 2}, Tiny(), tensors).ok());
  CHECK_THAT(std::string(LoraAdapter::FromTensors({.rank = 3}, Tiny(), tensors)
                             .status()
                             .message()),
             Catch::Contains("expected shape [3, 16], found [2, 16]"));
  tensors.push_back({"extra", at::zeros({1})});
  CHECK(!LoraAdapter::FromTensors({.rank = 2}, Tiny(), tensors).ok());
  tensors.resize(3);
  CHECK(!LoraAdapter::FromTensors({.rank = 2}, Tiny(), tensors).ok());
  ModelConfig other = Tiny();
  other.layers = 2;
  CHECK(CheckFits(**adapter, other).code() ==
        absl::StatusCode::kInvalidArgument);
  auto base = LanguageModel::Random(other, 1);
  CHECK(!Merge(**base, **adapter).ok());
}

}  // namespace
}  // namespace mpo::model
