// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/decoder.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/model/safetensors.h"
#include "mpo/tensor/products.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

const std::filesystem::path kTestdata =
    std::filesystem::path(MPO_SOURCE_DIR) / "mpo/model/testdata";

std::shared_ptr<const LanguageModel> LoadTiny(const std::string& name) {
  auto model = LanguageModel::Load(kTestdata / name);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *model;
}

// Logits of transformers: the last row in full, every row as its sum.
void CheckAgainstFixture(const LanguageModel& model, const LoraAdapter* adapter,
                         const std::filesystem::path& file) {
  at::NoGradGuard no_grad;
  const auto json = nlohmann::json::parse(*ReadFile(file));
  std::vector<std::vector<int32_t>> all;
  for (const auto& item : json["cases"])
    all.push_back(item["tokens"].get<std::vector<int32_t>>());
  for (PaddingSide side : {PaddingSide::kRight, PaddingSide::kLeft}) {
    auto batch = PadSequences(all, side);
    REQUIRE(batch.ok());
    const at::Tensor logits = Forward(model, adapter, *batch);
    for (size_t i = 0; i < all.size(); ++i) {
      const auto n = static_cast<int64_t>(all[i].size());
      const int64_t begin = side == PaddingSide::kLeft ? logits.size(1) - n : 0;
      const at::Tensor own =
          logits[static_cast<int64_t>(i)].narrow(0, begin, n);
      const auto& item = json["cases"][i];
      const at::Tensor last =
          at::tensor(item["last_logits"].get<std::vector<double>>())
              .to(at::kFloat);
      const at::Tensor sums =
          at::tensor(item["sums"].get<std::vector<double>>()).to(at::kFloat);
      const double largest = own.abs().max().item<double>();
      CHECK((own[n - 1] - last).abs().max().item<double>() < 1e-4 * largest);
      CHECK((own.sum(-1) - sums).abs().max().item<double>() <
            1e-4 * largest * static_cast<double>(own.size(1)));
    }
  }
}

TEST_CASE("a model with packed weights has the same logits and gradients",
          "[model]") {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 112;
  config.intermediate_size = 160;
  config.layers = 3;
  config.heads = 7;
  config.kv_heads = 7;
  config.head_dim = 16;
  config.context = 256;
  const auto base = *LanguageModel::Random(config, 1);
  const auto packed =
      std::make_shared<const LanguageModel>(base->WithPacked(1));
  if (tensor::Packed(base->layer(0).qkv).defined()) {
    CHECK(packed->layer(0).packed.qkv.transposed.defined());
    CHECK_FALSE(packed->layer(0).packed.qkv.plain.defined());
    CHECK(packed->layer(2).packed.down.plain.defined());
    CHECK_FALSE(packed->Cast(at::kBFloat16).layer(2).packed.o.plain.defined());
  }
  LoraConfig lora;
  lora.rank = 4;
  lora.layers = 2;
  std::vector<std::vector<int32_t>> sequences;
  for (int i = 0; i < 8; ++i) {
    sequences.emplace_back(100 + i);
    for (int j = 0; j < 100 + i; ++j) sequences[i][j] = (7 * i + 3 * j) % 50;
  }
  const auto batch = *PadSequences(sequences, PaddingSide::kRight);
  const auto run = [&](const LanguageModel& model) {
    const auto adapter = *LoraAdapter::Create(lora, config, 3);
    std::vector<at::Tensor> leaves;
    for (const tensor::NamedTensor& x : adapter->Parameters()) {
      at::NoGradGuard no_grad;
      // B begins as zeros, and A without a gradient.
      at::Tensor(x.tensor).add_(0.01);
      leaves.push_back(x.tensor);
    }
    const at::Tensor logits = Forward(model, adapter.get(), batch);
    std::vector<at::Tensor> found = torch::autograd::grad(
        {logits.log_softmax(-1).select(-1, 5).sum()}, leaves);
    found.push_back(logits.detach());
    return found;
  };
  const auto expected = run(*base), found = run(*packed);
  REQUIRE(expected.size() > 20);
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO(i);
    CHECK(at::equal(expected[i], found[i]));
  }
}

TEST_CASE(
    "logits of every supported architecture equal transformers', whatever the "
    "padding",
    "[model]") {
  for (const char* name :
       {"tiny_llama", "tiny_llama3", "tiny_linear", "tiny_dynamic",
        "tiny_qwen2", "tiny_qwen3", "tiny_qwen3_bf16"}) {
    DYNAMIC_SECTION(name) {
      CheckAgainstFixture(*LoadTiny(name), nullptr,
                          kTestdata / name / "expected.json");
    }
  }
}

TEST_CASE("an adapter that PEFT wrote gives PEFT's logits, beside and merged",
          "[model]") {
  for (const auto& [name, base_name, first_layer] :
       {std::tuple("peft", "tiny_llama", 1),
        std::tuple("peft_head", "tiny_qwen3", 0)}) {
    DYNAMIC_SECTION(name) {
      const auto expected = kTestdata / name / "expected.json";
      auto base = LoadTiny(base_name);
      auto adapter = LoraAdapter::Load(kTestdata / name, base->config());
      INFO(adapter.status().ToString());
      REQUIRE(adapter.ok());
      CHECK((*adapter)->first_layer() == first_layer);
      CheckAgainstFixture(*base, adapter->get(), expected);
      auto merged = Merge(*base, **adapter);
      REQUIRE(merged.ok());
      CheckAgainstFixture(**merged, nullptr, expected);
      auto back = Unmerge(**merged, **adapter);
      REQUIRE(back.ok());
      CheckAgainstFixture(**back, nullptr,
                          kTestdata / base_name / "expected.json");
    }
  }
}

TEST_CASE("an adapter of a tied head changes the head and not the embedding",
          "[model]") {
  at::NoGradGuard no_grad;
  auto base = LoadTiny("tiny_llama");
  auto adapter = LoraAdapter::Create({.rank = 2, .target_modules = {"lm_head"}},
                                     base->config(), 3);
  REQUIRE(adapter.ok());
  CHECK((*adapter)->first_layer() == base->config().layers);
  at::Tensor((*adapter)->head().b).fill_(0.1);
  auto merged = Merge(*base, **adapter);
  REQUIRE(merged.ok());
  CHECK_FALSE((*merged)->config().tie_embeddings);
  CHECK(at::equal((*merged)->embedding(), base->embedding()));
  CHECK_FALSE(at::equal((*merged)->head(), base->head()));
  CHECK(at::equal((*merged)->layer(0).qkv, base->layer(0).qkv));
  CHECK(at::allclose(HeadWeight(*base, adapter->get()), (*merged)->head()));
  CHECK(HeadWeight(*base, nullptr).is_same(base->head()));
  auto batch = PadSequences({{5, 6, 7, 8}});
  CHECK(at::allclose(Forward(*base, adapter->get(), *batch),
                     Forward(**merged, nullptr, *batch), 1e-4, 1e-4));
}

TEST_CASE(
    "wanted tokens alone have the hidden states and gradients they have among "
    "all",
    "[model]") {
  const auto model = LoadTiny("tiny_qwen3");
  const int64_t layers = model->config().layers;
  const auto batch = *PadSequences({{1, 2, 3, 4, 5}, {6, 7, 8}});
  // Out of order and one twice, as shared prompts give them.
  const at::Tensor wanted = at::tensor({6, 1, 4, 1}, at::kLong);
  for (int64_t first = 0; first <= layers; ++first) {
    INFO("from layer " << first);
    at::Tensor gradients[2], states[2];
    for (int alone : {0, 1}) {
      const at::Tensor input = Embed(*model, batch.tokens).requires_grad_();
      states[alone] =
          alone == 1
              ? ForwardLayersAt(*model, nullptr, input, batch, first, wanted)
              : ForwardLayers(*model, nullptr, input, batch, first, layers)
                    .flatten(0, 1)
                    .index_select(0, wanted);
      states[alone].square().sum().backward();
      gradients[alone] = input.grad();
    }
    CHECK(states[1].sizes() ==
          at::IntArrayRef({4, model->config().hidden_size}));
    CHECK(at::allclose(states[0], states[1], 1e-5, 1e-6));
    CHECK(gradients[0].abs().max().item<double>() > 0);
    CHECK(at::allclose(gradients[0], gradients[1], 1e-4, 1e-5));
  }
}

TEST_CASE("dynamic NTK frequencies follow a sequence's own length", "[model]") {
  at::NoGradGuard no_grad;
  auto model = LoadTiny("tiny_dynamic");
  const ModelConfig& c = model->config();
  CHECK(at::equal(RotaryFrequencies(c, 5), RotaryFrequencies(c)));
  CHECK(at::equal(RotaryFrequencies(c, c.context), RotaryFrequencies(c)));
  const at::Tensor longer = RotaryFrequencies(c, c.context + 1);
  CHECK(longer[0].item<float>() == 1.0F);
  CHECK(longer[1].item<float>() < RotaryFrequencies(c)[1].item<float>());
  // Beside a long one, a short sequence gives what it gives alone.
  std::vector<int32_t> long_one;
  for (int i = 0; i < 50; ++i) long_one.push_back(i);
  auto alone = PadSequences({{5, 6, 7}});
  auto both = PadSequences({{5, 6, 7}, long_one});
  CHECK(at::allclose(Forward(*model, nullptr, *alone)[0],
                     Forward(*model, nullptr, *both)[0].narrow(0, 0, 3), 1e-4,
                     1e-5));
  CHECK_FALSE(CheckTokens(c, long_one, "p").ok());
}

TEST_CASE(
    "left padding changes no bit of what a token sees, whatever stands in it",
    "[model]") {
  at::NoGradGuard no_grad;
  auto model = LoadTiny("tiny_llama");
  auto batch = PadSequences({{5, 6, 7}, {1, 2, 3, 4, 5, 6, 7, 8, 9}},
                            PaddingSide::kLeft);
  REQUIRE(batch.ok());
  const at::Tensor before = Forward(*model, nullptr, *batch)[0].narrow(0, 6, 3);
  batch->tokens[0].narrow(0, 0, 6).fill_(60);
  const at::Tensor after = Forward(*model, nullptr, *batch)[0].narrow(0, 6, 3);
  CHECK(at::equal(before, after));
}

TEST_CASE(
    "the trunk run once under no_grad gives the same logits and gradients",
    "[model]") {
  auto model = LoadTiny("tiny_llama");
  auto adapter =
      LoraAdapter::Create({.rank = 2, .layers = 1}, model->config(), 3);
  REQUIRE(adapter.ok());
  auto batch = PadSequences({{5, 6, 7, 8}, {9, 10}});
  REQUIRE(batch.ok());
  at::Tensor trunk;
  {
    at::NoGradGuard no_grad;
    trunk = ForwardLayers(*model, adapter->get(), Embed(*model, batch->tokens),
                          *batch, 0, (*adapter)->first_layer());
  }
  auto gradients = [&](const at::Tensor& hidden) {
    const at::Tensor logits =
        Head(*model, adapter->get(), FinalNorm(*model, hidden));
    at::log_softmax(logits, -1)
        .masked_select(batch->valid.unsqueeze(-1))
        .square()
        .sum()
        .backward();
    std::vector<at::Tensor> out;
    for (auto& named : (*adapter)->Parameters()) {
      out.push_back(named.tensor.grad().clone());
      named.tensor.mutable_grad().reset();
    }
    return out;
  };
  const auto split =
      gradients(ForwardLayers(*model, adapter->get(), trunk, *batch, 1, 2));
  const auto whole = gradients(ForwardLayers(
      *model, adapter->get(), Embed(*model, batch->tokens), *batch, 0, 2));
  bool any = false;
  for (size_t i = 0; i < split.size(); ++i) {
    CHECK(at::allclose(split[i], whole[i], 1e-5, 1e-6));
    any = any || split[i].abs().max().item<double>() > 0;
  }
  CHECK(any);
}

TEST_CASE("layers computed again give the same gradients to the bit",
          "[model]") {
  const auto model = LoadTiny(GENERATE("tiny_qwen2", "tiny_qwen3"));
  const bool lora = GENERATE(true, false);
  std::shared_ptr<LoraAdapter> adapter;
  std::shared_ptr<LanguageModel> copy = *model->TrainableCopy();
  if (lora) {
    adapter = *LoraAdapter::Create({.rank = 2}, model->config(), 3);
    at::NoGradGuard no_grad;
    for (const auto& named : adapter->Parameters())
      at::Tensor(named.tensor).add_(0.01);
  }
  const LanguageModel& weights = lora ? *model : *copy;
  const auto trained = lora ? adapter->Parameters() : copy->Parameters();
  const auto batch = *PadSequences({{5, 6, 7, 8}, {9, 10}});
  const at::Tensor wanted = at::tensor({1, 2, 4}, at::kLong);
  std::vector<at::Tensor> kept;
  for (const Activations activations :
       {Activations::kKept, Activations::kRecomputed}) {
    const at::Tensor hidden =
        ForwardLayersAt(weights, adapter.get(), Embed(weights, batch.tokens),
                        batch, 0, wanted, activations);
    at::sin(FinalNorm(weights, hidden)).sum().backward();
    for (size_t i = 0; i < trained.size(); ++i) {
      INFO(trained[i].name);
      at::Tensor leaf = trained[i].tensor;
      if (activations == Activations::kKept) {
        kept.push_back(leaf.grad());
      } else if (kept[i].defined()) {  // Not a head of its own.
        CHECK(kept[i].abs().max().item<float>() > 0);
        CHECK(at::equal(kept[i], leaf.grad()));
      }
      leaf.mutable_grad().reset();
    }
  }
}

TEST_CASE(
    "a trainable copy gets gradients on every weight and leaves the original "
    "alone",
    "[model]") {
  auto model = LoadTiny(GENERATE("tiny_qwen2", "tiny_qwen3"));
  const std::string digest = *model->Digest();
  auto copy = model->TrainableCopy();
  REQUIRE(copy.ok());
  CHECK(*(*copy)->Digest() == digest);
  auto batch = PadSequences({{5, 6, 7, 8}});
  Forward(**copy, nullptr, *batch).square().mean().backward();
  at::NoGradGuard no_grad;
  for (auto& named : (*copy)->Parameters()) {
    INFO(named.name);
    REQUIRE(named.tensor.grad().defined());
    named.tensor.sub_(named.tensor.grad());
  }
  CHECK(*(*copy)->Digest() != digest);
  CHECK(*model->Digest() == digest);
}

TEST_CASE("a model saved and loaded is the same, bit for bit", "[model]") {
  const auto directory =
      std::filesystem::path(MPO_BINARY_DIR) / "model_test_saved";
  for (const char* name :
       {"tiny_llama3", "tiny_dynamic", "tiny_qwen2", "tiny_qwen3"}) {
    auto model = LoadTiny(name);
    REQUIRE(model->Save(directory).ok());
    auto back = LanguageModel::Load(directory);
    INFO(back.status().ToString());
    REQUIRE(back.ok());
    CHECK((*back)->config() == model->config());
    CHECK(*(*back)->Digest() == *model->Digest());
  }
  std::filesystem::remove_all(directory);
}

TEST_CASE("half and bfloat16 files load as float32 with the values they hold",
          "[model]") {
  const auto directory =
      std::filesystem::path(MPO_BINARY_DIR) / "model_test_narrow";
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16}) {
    auto narrow =
        LanguageModel::Load(kTestdata / "tiny_qwen3", {.dtype = dtype});
    REQUIRE(narrow.ok());
    REQUIRE((*narrow)->Save(directory).ok());
    auto wide = LanguageModel::Load(directory);
    INFO(wide.status().ToString());
    REQUIRE(wide.ok());
    CHECK((*wide)->dtype() == at::kFloat);
    CHECK(at::equal((*wide)->layer(1).q_norm,
                    (*narrow)->layer(1).q_norm.to(at::kFloat)));
    CHECK(
        at::equal((*wide)->embedding(), (*narrow)->embedding().to(at::kFloat)));
  }
  std::filesystem::remove_all(directory);
}

TEST_CASE("shards named by an index load like one file; a missing one is named",
          "[model]") {
  const auto directory =
      std::filesystem::path(MPO_BINARY_DIR) / "model_test_shards";
  std::filesystem::remove_all(directory);
  auto model = LoadTiny("tiny_llama");
  REQUIRE(model->Save(directory).ok());
  std::filesystem::remove(directory / "model.safetensors");
  const auto state = model->StateDict();
  nlohmann::json map;
  std::vector<tensor::NamedTensor> halves[2];
  for (size_t i = 0; i < state.size(); ++i) {
    halves[i % 2].push_back(state[i]);
    map[state[i].name] = absl::StrCat("part", i % 2, ".safetensors");
  }
  for (int i = 0; i < 2; ++i) {
    REQUIRE(WriteSafetensors(
                directory / absl::StrCat("part", i, ".safetensors"), halves[i])
                .ok());
  }
  REQUIRE(WriteFileAtomically(directory / "model.safetensors.index.json",
                              nlohmann::json{{"weight_map", map}}.dump())
              .ok());
  CHECK(*(*LanguageModel::Load(directory))->Digest() == *model->Digest());
  std::filesystem::remove(directory / "part1.safetensors");
  const auto status = LanguageModel::Load(directory).status();
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK(std::string(status.message()).find("part1.safetensors") !=
        std::string::npos);
  std::filesystem::remove_all(directory);
}

TEST_CASE("FromTensors names what is missing, unexpected or misshapen",
          "[model]") {
  auto model = LoadTiny("tiny_llama");
  auto expect = [&](std::vector<tensor::NamedTensor> tensors,
                    const char* text) {
    const auto status =
        LanguageModel::FromTensors(model->config(), tensors).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(std::string(status.message()), Catch::Contains(text));
  };
  auto state = model->StateDict();
  CHECK(LanguageModel::FromTensors(model->config(), state).ok());
  auto missing = state;
  missing.pop_back();
  expect(missing, "'model.norm.weight' is missing");
  auto extra = state;
  extra.push_back({"model.layers.9.q_norm.weight", at::zeros({1})});
  expect(extra, "q_norm.weight' is not expected");
  auto wrong = state;
  wrong[0].tensor = at::zeros({3, 3});
  expect(wrong, "expected shape [61, 32], found [3, 3]");
}

TEST_CASE("FromTensors lies on the tensors' memory where it may", "[model]") {
  const auto memory =
      GENERATE(LanguageModel::Memory::kShared, LanguageModel::Memory::kCopied);
  const bool shared = memory == LanguageModel::Memory::kShared;
  const auto model = LoadTiny("tiny_llama");
  auto state = model->StateDict();
  // One matrix is in pieces, so that its fused one cannot be a view.
  for (auto& named : state) {
    if (named.name == "model.layers.1.self_attn.k_proj.weight")
      named.tensor = named.tensor.clone();
  }
  const auto made =
      LanguageModel::FromTensors(model->config(), state, {}, memory);
  REQUIRE(made.ok());
  CHECK(*(*made)->Digest() == *model->Digest());
  const auto on_it = [](const at::Tensor& a, const at::Tensor& b) {
    return a.const_data_ptr() == b.const_data_ptr();
  };
  CHECK(on_it((*made)->embedding(), model->embedding()) == shared);
  CHECK(on_it((*made)->layer(0).qkv, model->layer(0).qkv) == shared);
  CHECK(on_it((*made)->layer(1).gate_up, model->layer(1).gate_up) == shared);
  CHECK_FALSE(on_it((*made)->layer(1).qkv, model->layer(1).qkv));
  const auto half = LanguageModel::FromTensors(
      model->config(), state, {.dtype = at::kBFloat16}, memory);
  REQUIRE(half.ok());
  CHECK((*half)->dtype() == at::kBFloat16);
}

TEST_CASE(
    "Random makes the same weights for a seed and other weights for another",
    "[model]") {
  const ModelConfig config = LoadTiny("tiny_llama")->config();
  const std::string digest = *(*LanguageModel::Random(config, 1))->Digest();
  CHECK(digest == *(*LanguageModel::Random(config, 1))->Digest());
  CHECK(digest != *(*LanguageModel::Random(config, 2))->Digest());
}

TEST_CASE("bad sequences are refused with their name", "[model]") {
  const ModelConfig config = LoadTiny("tiny_llama")->config();
  CHECK(CheckTokens(config, {1, 2}, "p").ok());
  CHECK_THAT(std::string(CheckTokens(config, {61}, "p7").message()),
             Catch::Contains("p7"));
  CHECK(!CheckTokens(config, {-1}, "p").ok());
  CHECK(!CheckTokens(config, {}, "p").ok());
  CHECK_THAT(
      std::string(
          CheckTokens(config, std::vector<int32_t>(129, 1), "p").message()),
      Catch::Contains("129") && Catch::Contains("128"));
  CHECK(!PadSequences({}).ok());
  CHECK(!PadSequences({{1}, {}}).ok());
}

}  // namespace
}  // namespace mpo::model
