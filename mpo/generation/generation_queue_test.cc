// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "mpo/generation/engine.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {
namespace {

std::shared_ptr<const model::LanguageModel> TinyModel(uint64_t seed = 7) {
  model::ModelConfig c;
  c.vocab_size = 97;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 8;
  c.context = 128;
  c.initializer_range = 0.3;
  c.eos_tokens = {2};
  auto tiny = model::LanguageModel::Random(c, seed);
  REQUIRE(tiny.ok());
  return *tiny;
}

std::unique_ptr<Engine> MakeEngine(
    EngineOptions options,
    std::shared_ptr<const model::LanguageModel> model = TinyModel()) {
  options.stop_tokens.emplace();
  auto engine = Engine::Create(std::move(model), options);
  REQUIRE(engine.ok());
  return *std::move(engine);
}

GenerationRequest Request(const std::string& id, int length, int first,
                          uint64_t seed, int new_tokens) {
  GenerationRequest request{.id = id, .prompt_tokens = {}, .seed = seed};
  for (int i = 0; i < length; ++i)
    request.prompt_tokens.push_back((first + i * 31) % 97);
  request.sampling =
      SamplingOptions{.temperature = 1.0, .max_new_tokens = new_tokens};
  return request;
}

using Results = std::map<std::string, GenerationResult>;

void Submit(Engine& engine, const GenerationRequest& request,
            Results& results) {
  REQUIRE(engine
              .Submit(request,
                      [&results](GenerationResult&& result) {
                        const std::string id = result.id;
                        results[id] = std::move(result);
                      })
              .ok());
}

void Finish(Engine& engine) {
  while (*engine.Step()) {
  }
}

// Bit for bit, and every token drawn by `version`.
void CheckSame(const GenerationResult& found, const GenerationResult& expected,
               PolicyVersion version) {
  REQUIRE(found.status.ok());
  CHECK(found.tokens == expected.tokens);
  CHECK(found.logprobs == expected.logprobs);
  CHECK(found.untempered_logprobs == expected.untempered_logprobs);
  const std::vector<TokenSpan> whole = {
      {0, static_cast<int>(found.tokens.size()), version}};
  // Not as an operand of CHECK: spans have no printed form.
  const bool by_version = found.spans == whole;
  CHECK(by_version);
}

// What an engine gives that never had other weights than those of `seed`.
GenerationResult Fresh(EngineOptions options, uint64_t seed,
                       const GenerationRequest& request) {
  auto engine = MakeEngine(options, TinyModel(seed));
  Results results;
  Submit(*engine, request, results);
  Finish(*engine);
  return results[request.id];
}

TEST_CASE("a sample that waits while the weights change is drawn by the new",
          "[generation]") {
  const EngineOptions options{.max_rows = 1};
  auto engine = MakeEngine(options);
  REQUIRE(engine->SetPolicy(nullptr, nullptr, 4).ok());
  const auto first = Request("first", 21, 1, 11, 6);
  const auto second = Request("second", 21, 1, 12, 6);
  const auto third = Request("third", 21, 1, 13, 6);
  Results results;
  Submit(*engine, first, results);
  Submit(*engine, second, results);
  for (int i = 0; i < 3; ++i) REQUIRE(*engine->Step());
  REQUIRE(engine->SetPolicy(TinyModel(8), nullptr, 5).ok());
  Submit(*engine, third, results);  // Behind the same prompt.
  Finish(*engine);
  const bool changed =
      results["first"].spans == std::vector<TokenSpan>{{0, 3, 4}, {3, 6, 5}};
  CHECK(changed);
  const auto expected = Fresh(options, 8, second);
  CheckSame(results["second"], expected, 5);
  CheckSame(results["third"], Fresh(options, 8, third), 5);
  CHECK(Fresh(options, 7, second).logprobs != expected.logprobs);
}

TEST_CASE("a prompt half prefilled when the weights change is prefilled again",
          "[generation]") {
  const EngineOptions options{.prefill_tokens = 16};
  auto engine = MakeEngine(options);
  const auto request = Request("a", 40, 3, 5, 8);
  Results results;
  Submit(*engine, request, results);
  REQUIRE(*engine->Step());
  REQUIRE(engine->SetPolicy(TinyModel(8), nullptr, 1).ok());
  Finish(*engine);
  CheckSame(results["a"], Fresh(options, 8, request), 1);
}

TEST_CASE("Generate's spans carry the version last set", "[generation]") {
  auto engine = MakeEngine({});
  REQUIRE(engine->SetPolicy(TinyModel(8), nullptr, 9).ok());
  const auto request = Request("a", 10, 1, 2, 5);
  const auto results = engine->Generate({request}, {});
  REQUIRE(results.ok());
  CheckSame((*results)[0], Fresh({}, 8, request), 9);
}

TEST_CASE("samples run in the order of arrival and still share a prefill",
          "[generation]") {
  auto engine = MakeEngine({.max_rows = 1});
  const std::vector<GenerationRequest> requests = {
      Request("a", 33, 1, 1, 4), Request("b", 33, 2, 2, 4),
      Request("a again", 33, 1, 3, 4)};
  std::vector<std::string> order;
  const auto results = engine->Generate(
      requests, {}, nullptr, {},
      [&](const GenerationResult& result) { order.push_back(result.id); });
  REQUIRE(results.ok());
  CHECK(order == std::vector<std::string>{"a", "b", "a again"});
  CHECK(engine->statistics().prompt_tokens == 2 * 33);
  for (size_t i = 0; i < requests.size(); ++i)
    CheckSame((*results)[i], Fresh({.max_rows = 1}, 7, requests[i]), 0);
}

TEST_CASE("a kept prompt gives way to the sample whose turn it is",
          "[generation]") {
  const std::vector<GenerationRequest> requests = {
      Request("a", 33, 1, 1, 4), Request("b", 33, 2, 2, 4),
      Request("a again", 33, 1, 3, 4)};
  EngineOptions options{.max_rows = 1};
  auto probe = MakeEngine(options);
  REQUIRE(probe->Generate({requests[0]}, {}).ok());
  // A sample needs four pages: three of its prompt, one of its own.
  options.kv_cache_bytes = 5 * probe->statistics().kv_page_bytes;
  auto engine = MakeEngine(options);
  const auto results = engine->Generate(requests, {});
  REQUIRE(results.ok());
  CHECK(engine->statistics().prompt_tokens == 3 * 33);
  for (size_t i = 0; i < requests.size(); ++i)
    CheckSame((*results)[i], Fresh({.max_rows = 1}, 7, requests[i]), 0);
}

TEST_CASE("a log-prob that is not finite fails the sample with DATA_LOSS",
          "[generation]") {
  const auto base = TinyModel();
  GenerationRequest request = Request("far", 9, 1, 1, 4);
  at::NoGradGuard no_grad;
  const auto batch = model::PadSequences({request.prompt_tokens});
  REQUIRE(batch.ok());
  const at::Tensor logits = model::Forward(*base, nullptr, *batch)[0][-1];
  // Finite logits whose range is not: 2.6e38 for token 1, -2.6e38 for all
  // others. With 0 and 1 banned, which is not as low, greedy takes 0.
  auto stretched = base->TrainableCopy();
  REQUIRE(stretched.ok());
  for (auto& named : (*stretched)->Parameters()) {
    if (named.name != "lm_head.weight") continue;
    const auto best = logits.argmax().item<int64_t>();
    const at::Tensor row =
        named.tensor[best] * (2.6e38 / logits.max().item<double>());
    named.tensor.copy_((-row).expand_as(named.tensor));
    named.tensor[1].copy_(row);
  }
  request.sampling->temperature = 0;
  request.sampling->min_new_tokens = 1;
  request.stop_tokens = std::vector<int32_t>{0, 1};
  auto engine = MakeEngine({}, *stretched);
  const auto results = engine->Generate({request}, {});
  REQUIRE(results.ok());
  CHECK((*results)[0].status.code() == absl::StatusCode::kDataLoss);
  CHECK((*results)[0].tokens.empty());
}

}  // namespace
}  // namespace mpo::generation
