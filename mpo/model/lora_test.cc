// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/lora.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "mpo/model/decoder.h"
#include "mpo/model/safetensors.h"

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

TEST_CASE("a head's adapter and layers in any place are saved and loaded",
          "[lora]") {
  const auto directory =
      std::filesystem::path(MPO_BINARY_DIR) / "lora_test_head";
  LoraConfig config{.rank = 2, .target_modules = {"v_proj", "lm_head"}};
  config.layer_indices = {0, 2};
  auto adapter = LoraAdapter::Create(config, Tiny(), 2);
  REQUIRE(adapter.ok());
  CHECK((*adapter)->first_layer() == 0);
  CHECK_FALSE((*adapter)->weights(1, Module::kV).a.defined());
  CHECK_FALSE((*adapter)->weights(0, Module::kQ).a.defined());
  auto parameters = (*adapter)->Parameters();
  REQUIRE(parameters.size() == 6);
  CHECK(parameters[5].name == "base_model.model.lm_head.lora_B.weight");
  CHECK(parameters[5].tensor.sizes() == at::IntArrayRef({50, 2}));
  REQUIRE((*adapter)->Save(directory).ok());
  auto back = LoraAdapter::Load(directory, Tiny());
  INFO(back.status().ToString());
  REQUIRE(back.ok());
  CHECK((*back)->config() == config);
  CHECK(*(*back)->Digest() == *(*adapter)->Digest());

  // PEFT adds a copy of the base's head; of another shape it is refused.
  for (const int64_t rows : {50, 51}) {
    auto with_copy = parameters;
    with_copy.push_back(
        {"base_model.model.lm_head.base_layer.weight", at::zeros({rows, 16})});
    REQUIRE(WriteSafetensors(directory / "adapter_model.safetensors", with_copy)
                .ok());
    CHECK(LoraAdapter::Load(directory, Tiny()).ok() == (rows == 50));
  }
  ModelConfig other = Tiny();
  other.vocab_size = 51;
  CHECK_FALSE(CheckFits(**adapter, other).ok());
  std::filesystem::remove_all(directory);
}

TEST_CASE("Unmerge gives the base back up to rounding", "[lora]") {
  auto base = LanguageModel::Random(Tiny(), 1);
  auto adapter = LoraAdapter::Create({.rank = 2}, Tiny(), 9);
  {
    at::NoGradGuard no_grad;
    for (auto& named : (*adapter)->Parameters()) named.tensor.add_(0.5);
  }
  auto merged = Merge(**base, **adapter);
  REQUIRE(merged.ok());
  auto back = Unmerge(**merged, **adapter);
  REQUIRE(back.ok());
  CHECK_FALSE(at::allclose((*merged)->layer(2).down, (*base)->layer(2).down));
  CHECK(
      at::allclose((*back)->layer(2).down, (*base)->layer(2).down, 1e-4, 1e-5));
  CHECK((*back)->config() == Tiny());
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
  expect({.target_modules = {"embed_tokens"}}, "embed_tokens");
  expect({.target_modules = {"q_proj", "q_proj"}}, "twice");
  expect({.dropout = 0.1}, "training with dropout");
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
