// SPDX-License-Identifier: Apache-2.0
// Every architecture of mpo/model/testdata, whose decoder equals transformers
// (mpo/model/decoder_test.cc), in the generation engine.
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "mpo/generation/engine.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {
namespace {

const std::filesystem::path kTestdata =
    std::filesystem::path(MPO_SOURCE_DIR) / "mpo/model/testdata";

std::shared_ptr<const model::LanguageModel> LoadTiny(const std::string& name) {
  auto model = model::LanguageModel::Load(kTestdata / name);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *model;
}

std::unique_ptr<Engine> EngineOf(
    std::shared_ptr<const model::LanguageModel> model, bool fused = true) {
  auto engine =
      Engine::Create(std::move(model),
                     {.stop_tokens = std::vector<int32_t>{}, .fused = fused});
  REQUIRE(engine.ok());
  return *std::move(engine);
}

std::vector<int32_t> Tokens(int length, int seed) {
  std::vector<int32_t> tokens(length);
  for (int i = 0; i < length; ++i)
    tokens[i] = (i * 31 + seed * 17 + i * i * seed) % 61;
  return tokens;
}

// Log-probs of tokens[1..] under the differentiable decoder.
at::Tensor DecoderLogProbs(const model::LanguageModel& model,
                           const model::LoraAdapter* adapter,
                           const std::vector<int32_t>& tokens) {
  at::NoGradGuard no_grad;
  auto batch = model::PadSequences({tokens});
  REQUIRE(batch.ok());
  const at::Tensor logps =
      at::log_softmax(model::Forward(model, adapter, *batch)[0], -1);
  return logps.narrow(0, 0, logps.size(0) - 1)
      .gather(1, batch->tokens[0].narrow(0, 1, logps.size(0) - 1).unsqueeze(1))
      .squeeze(1);
}

void CheckOneEngine(std::shared_ptr<const model::LanguageModel> model,
                    const model::LoraAdapter* adapter, bool fused) {
  auto engine = EngineOf(model, fused);
  std::vector<ScoreRequest> score;
  std::vector<GenerationRequest> generate;
  for (int i = 0; i < 5; ++i) {
    score.push_back({.id = "s", .tokens = Tokens(3 + 7 * i, i)});
    generate.push_back({.id = "g",
                        .prompt_tokens = Tokens(1 + 3 * i, i),
                        .seed = static_cast<uint64_t>(i)});
  }
  const auto scored = engine->LogProbs(score, adapter);
  const auto made = engine->Generate(
      generate, {.temperature = 1, .max_new_tokens = 16}, adapter);
  REQUIRE(scored.ok());
  REQUIRE(made.ok());
  auto check = [&](const std::vector<int32_t>& tokens,
                   const std::vector<float>& found) {
    const auto count = static_cast<int64_t>(found.size());
    const at::Tensor expected = DecoderLogProbs(*model, adapter, tokens);
    CHECK(at::allclose(at::tensor(found),
                       expected.narrow(0, expected.size(0) - count, count),
                       1e-4, 2e-4));
  };
  for (size_t i = 0; i < score.size(); ++i) {
    REQUIRE((*scored)[i].status.ok());
    check(score[i].tokens, (*scored)[i].logprobs);
    REQUIRE((*made)[i].tokens.size() == 16);
    std::vector<int32_t> all = generate[i].prompt_tokens;
    all.insert(all.end(), (*made)[i].tokens.begin(), (*made)[i].tokens.end());
    check(all, (*made)[i].untempered_logprobs);
  }
}

// With the fused loops and with LibTorch's operations.
void CheckEngine(std::shared_ptr<const model::LanguageModel> model,
                 const model::LoraAdapter* adapter) {
  CheckOneEngine(model, adapter, /*fused=*/true);
  CheckOneEngine(model, adapter, /*fused=*/false);
}

TEST_CASE("the engine equals the decoder for every architecture and adapter",
          "[generation]") {
  for (const char* name :
       {"tiny_llama", "tiny_llama3", "tiny_linear", "tiny_dynamic",
        "tiny_qwen2", "tiny_qwen3", "tiny_qwen3_bf16"}) {
    DYNAMIC_SECTION(name) { CheckEngine(LoadTiny(name), nullptr); }
  }
  for (const auto& [name, base] : {std::pair("peft", "tiny_llama"),
                                   std::pair("peft_head", "tiny_qwen3")}) {
    DYNAMIC_SECTION(name) {
      auto model = LoadTiny(base);
      auto adapter =
          model::LoraAdapter::Load(kTestdata / name, model->config());
      REQUIRE(adapter.ok());
      CheckEngine(model, adapter->get());
    }
  }
}

TEST_CASE(
    "an adapter of the head alone changes the logits and can be taken off",
    "[generation]") {
  auto model = LoadTiny("tiny_llama");
  auto adapter = model::LoraAdapter::Create(
      {.rank = 2, .target_modules = {"lm_head"}}, model->config(), 3);
  REQUIRE(adapter.ok());
  {
    at::NoGradGuard no_grad;
    at::Tensor((*adapter)->head().b).fill_(0.5);
    (*adapter)->head().b.narrow(0, 0, 9).mul_(-1);
  }
  CheckEngine(model, adapter->get());
  auto engine = EngineOf(model);
  const std::vector<ScoreRequest> request = {
      {.id = "s", .tokens = Tokens(9, 1)}};
  const auto before = (*engine->LogProbs(request))[0].logprobs;
  const auto with = (*engine->LogProbs(request, adapter->get()))[0].logprobs;
  CHECK(before != with);
  CHECK((*engine->LogProbs(request))[0].logprobs == before);
}

TEST_CASE("with dynamic NTK generation ends at the original context",
          "[generation]") {
  auto model = LoadTiny("tiny_dynamic");
  REQUIRE(model->config().context == 32);
  auto engine = EngineOf(model);
  const auto results =
      engine->Generate({{.id = "fits", .prompt_tokens = Tokens(20, 1)},
                        {.id = "long", .prompt_tokens = Tokens(33, 1)}},
                       {.temperature = 0, .max_new_tokens = 64});
  REQUIRE(results.ok());
  CHECK((*results)[0].tokens.size() == 12);
  CHECK((*results)[0].finish_reason == FinishReason::kLength);
  CHECK((*results)[1].status.code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mpo::generation
