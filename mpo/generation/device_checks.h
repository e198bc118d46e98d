// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "mpo/generation/engine.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {

// What must hold of the engine on any device and in any dtype; for tests.

inline std::shared_ptr<const model::LanguageModel> SmallModel(
    const model::LoadOptions& options, uint64_t seed = 7) {
  model::ModelConfig c;
  c.vocab_size = 97;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.context = 128;
  c.initializer_range = 0.2;
  c.eos_tokens = {2};
  auto model = model::LanguageModel::Random(c, seed, options);
  REQUIRE(model.ok());
  return *model;
}

inline std::vector<int32_t> SomeTokens(int length, int seed) {
  std::vector<int32_t> tokens(length);
  for (int i = 0; i < length; ++i)
    tokens[i] = (i * 31 + seed * 17 + i * i * seed) % 97;
  return tokens;
}

inline std::vector<GenerationRequest> SomeRequests() {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 7; ++i) {
    // Prompts 0 and 1 are equal: they share pages, the last partly filled.
    requests.push_back({.id = std::to_string(i),
                        .prompt_tokens = SomeTokens(20 + 3 * (i / 2), i / 2),
                        .seed = static_cast<uint64_t>(i)});
  }
  return requests;
}

inline void CheckTrunkOn(Engine& engine, double tolerance) {
  std::vector<GenerationRequest> requests = SomeRequests();
  for (GenerationRequest& request : requests) request.keep_trunk = 2;
  const auto made =
      engine.Generate(requests, {.temperature = 1, .max_new_tokens = 12});
  REQUIRE(made.ok());
  std::vector<ScoreRequest> from_trunk, from_tokens;
  for (size_t i = 0; i < made->size(); ++i) {
    ScoreRequest score{.id = requests[i].id,
                       .tokens = requests[i].prompt_tokens};
    score.tokens.insert(score.tokens.end(), (*made)[i].tokens.begin(),
                        (*made)[i].tokens.end());
    from_tokens.push_back(score);
    score.trunk = (*made)[i].trunk;
    from_trunk.push_back(score);
  }
  const auto a = engine.LogProbs(from_tokens);
  const auto b = engine.LogProbs(from_trunk);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  for (size_t i = 0; i < a->size(); ++i) {
    REQUIRE((*a)[i].status.ok());
    REQUIRE((*b)[i].status.ok());
    CHECK(at::allclose(at::tensor((*a)[i].logprobs),
                       at::tensor((*b)[i].logprobs), 0, tolerance));
  }
}

// A prompt whose keys and values are NaN, beside and before others that take
// its places.
inline void CheckBrokenSampleOn(const model::LoadOptions& placement) {
  auto leaves = SmallModel(placement)->TrainableCopy(placement.device);
  REQUIRE(leaves.ok());
  {
    at::NoGradGuard no_grad;
    for (const auto& named : (*leaves)->Parameters()) {
      if (named.name == "model.embed_tokens.weight")
        at::Tensor(named.tensor)[5].fill_(NAN);
    }
  }
  auto engine = Engine::Create(
      std::make_shared<model::LanguageModel>((*leaves)->Cast(placement.dtype)),
      {.max_rows = 2, .stop_tokens = std::vector<int32_t>{}, .fused = false});
  REQUIRE(engine.ok());
  std::vector<GenerationRequest> requests = {
      {.id = "bad", .prompt_tokens = std::vector<int32_t>(40, 5)}};
  for (int i = 0; i < 5; ++i) {
    requests.push_back({.id = std::to_string(i),
                        .prompt_tokens = std::vector<int32_t>(3 + 9 * i, 6)});
  }
  // Never token 5 again: the most likely ones of this model are others.
  const auto made =
      (*engine)->Generate(requests, {.temperature = 0, .max_new_tokens = 6});
  REQUIRE(made.ok());
  CHECK(absl::IsDataLoss((*made)[0].status));
  for (size_t i = 1; i < made->size(); ++i) {
    INFO((*made)[i].status);
    CHECK((*made)[i].tokens.size() == 6);
  }
}

// Draws differ from row to row and stay the same; log-probs are those of the
// decoder in that dtype on the CPU within `tolerance`, with and without an
// adapter, from tokens and from a kept trunk; weights can be changed; a sample
// that is not finite disturbs nobody.
inline void CheckEngineOn(const model::LoadOptions& placement,
                          double tolerance) {
  const auto model = SmallModel(placement);
  const auto reference = SmallModel({.dtype = placement.dtype});
  auto adapter = model::LoraAdapter::Create({.rank = 4}, model->config(), 3);
  REQUIRE(adapter.ok());
  {
    at::NoGradGuard no_grad;
    torch::manual_seed(1);
    for (const auto& parameter : (*adapter)->Parameters())
      at::Tensor(parameter.tensor).normal_(0, 0.03);
  }
  auto created = Engine::Create(
      model, {.max_rows = 3, .stop_tokens = std::vector<int32_t>{}});
  REQUIRE(created.ok());
  Engine& engine = **created;
  const SamplingOptions sampling{.temperature = 1, .max_new_tokens = 24};
  const model::LoraAdapter* const with = adapter->get();
  const model::LoraAdapter* const without = nullptr;
  for (const model::LoraAdapter* used : {with, without}) {
    const auto made = engine.Generate(SomeRequests(), sampling, used);
    REQUIRE(made.ok());
    const auto again = engine.Generate(SomeRequests(), sampling, used);
    REQUIRE(again.ok());
    for (size_t i = 0; i < made->size(); ++i) {
      const GenerationResult& one = (*made)[i];
      REQUIRE(one.status.ok());
      REQUIRE(one.tokens.size() == 24);
      CHECK(one.tokens == (*again)[i].tokens);
      std::vector<int32_t> all = SomeRequests()[i].prompt_tokens;
      const auto prompt = static_cast<int64_t>(all.size());
      all.insert(all.end(), one.tokens.begin(), one.tokens.end());
      at::NoGradGuard no_grad;
      const auto batch = model::PadSequences({all});
      REQUIRE(batch.ok());
      const at::Tensor expected =
          at::log_softmax(
              model::Forward(*reference, used, *batch)[0].to(at::kFloat), -1)
              .narrow(0, prompt - 1, 24)
              .gather(1, at::tensor(one.tokens).to(at::kLong).unsqueeze(1))
              .squeeze(1);
      const double worst = (at::tensor(one.untempered_logprobs) - expected)
                               .abs()
                               .max()
                               .item<double>();
      INFO(one.id << ", largest difference " << worst);
      CHECK(worst < tolerance);
    }
    CHECK((*made)[0].tokens != (*made)[1].tokens);
  }
  CheckTrunkOn(engine, tolerance);
  CheckBrokenSampleOn(placement);
  CHECK(engine.SetPolicy(SmallModel(placement, /*seed=*/8), nullptr, 1).ok());
  const auto swapped = engine.Generate(SomeRequests(), sampling);
  REQUIRE(swapped.ok());
  CHECK((*swapped)[0].status.ok());
  const EngineStatistics& statistics = engine.statistics();
  CHECK(statistics.kv_bytes_per_token ==
        2 * 3 * 2 * 16 * c10::elementSize(placement.dtype));
  CHECK(statistics.kv_allocated_bytes >= statistics.kv_cache_bytes);
}

}  // namespace mpo::generation
