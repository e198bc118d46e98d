// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/engine.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {
namespace {

model::ModelConfig TinyConfig() {
  model::ModelConfig c;
  c.vocab_size = 97;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 10;  // Not a whole vector: the padding of values is used.
  c.context = 128;
  c.initializer_range = 0.3;
  c.eos_tokens = {2};
  return c;
}

std::shared_ptr<const model::LanguageModel> TinyModel(
    model::ModelConfig config = TinyConfig()) {
  auto tiny = model::LanguageModel::Random(config, 7);
  REQUIRE(tiny.ok());
  return *tiny;
}

std::unique_ptr<Engine> MakeEngine(
    EngineOptions options = {},
    std::shared_ptr<const model::LanguageModel> model = nullptr) {
  if (!options.stop_tokens.has_value()) options.stop_tokens.emplace();
  auto engine = Engine::Create(model != nullptr ? model : TinyModel(), options);
  REQUIRE(engine.ok());
  return *std::move(engine);
}

std::vector<int32_t> Prompt(int length, int seed = 1) {
  std::vector<int32_t> tokens(length);
  for (int i = 0; i < length; ++i)
    tokens[i] = (i * 31 + seed * 17 + i * i * seed) % 97;
  return tokens;
}

std::vector<GenerationRequest> Requests(int count, int length = 21) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back({.id = absl::StrCat("s", i),
                        .prompt_tokens = Prompt(length + i % 5, i),
                        .seed = static_cast<uint64_t>(100 + i)});
  }
  return requests;
}

std::vector<GenerationResult> Generate(
    Engine& engine, const std::vector<GenerationRequest>& r,
    SamplingOptions sampling = {.temperature = 1.0, .max_new_tokens = 40},
    const model::LoraAdapter* adapter = nullptr) {
  auto results = engine.Generate(r, sampling, adapter);
  REQUIRE(results.ok());
  for (const auto& result : *results) CHECK(result.status.ok());
  return *results;
}

std::shared_ptr<model::LoraAdapter> RandomAdapter() {
  auto adapter = model::LoraAdapter::Create(
      {.rank = 3, .alpha = 6, .layers = 2}, TinyConfig(), 5);
  REQUIRE(adapter.ok());
  at::NoGradGuard no_grad;
  for (auto& named : (*adapter)->Parameters()) {
    named.tensor.add_(0.2 *
                      at::sin(at::arange(named.tensor.numel(), at::kFloat))
                          .view(named.tensor.sizes()));
  }
  return *adapter;
}

// Log-probs of a response under the differentiable decoder.
std::vector<float> DecoderLogProbs(const std::vector<int32_t>& prompt,
                                   const std::vector<int32_t>& response,
                                   double temperature,
                                   const model::LoraAdapter* adapter) {
  at::NoGradGuard no_grad;
  auto model = TinyModel();
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), response.begin(), response.end());
  auto batch = model::PadSequences({all});
  REQUIRE(batch.ok());
  const at::Tensor logps = at::log_softmax(
      model::Forward(*model, adapter, *batch)[0] / temperature, -1);
  std::vector<float> out;
  for (size_t i = 0; i < response.size(); ++i) {
    out.push_back(logps[prompt.size() - 1 + i][response[i]].item<float>());
  }
  return out;
}

void CheckClose(const std::vector<float>& a, const std::vector<float>& b,
                double margin = 2e-4) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i)
    CHECK(a[i] == Approx(b[i]).margin(margin));
}

std::vector<ScoreRequest> Score(const std::vector<GenerationRequest>& requests,
                                const std::vector<GenerationResult>& results,
                                bool with_trunk) {
  std::vector<ScoreRequest> scored;
  for (size_t i = 0; i < requests.size(); ++i) {
    ScoreRequest one{
        .id = requests[i].id,
        .tokens = requests[i].prompt_tokens,
        .first_scored = static_cast<int>(requests[i].prompt_tokens.size())};
    one.tokens.insert(one.tokens.end(), results[i].tokens.begin(),
                      results[i].tokens.end());
    if (with_trunk) one.trunk = results[i].trunk;
    scored.push_back(std::move(one));
  }
  return scored;
}

TEST_CASE(
    "the base's log-probs from a generation's trunk equal those from the "
    "tokens",
    "[generation]") {
  auto engine = MakeEngine({.max_rows = 3, .prefill_tokens = 16});
  auto adapter = RandomAdapter();
  auto requests = Requests(7);
  requests[1].prompt_tokens = requests[0].prompt_tokens;
  for (auto& request : requests) request.keep_trunk = adapter->first_layer();
  const auto results =
      Generate(*engine, requests, {.temperature = 1.0, .max_new_tokens = 12},
               adapter.get());
  for (size_t i = 0; i < results.size(); ++i) {
    REQUIRE(results[i].trunk != nullptr);
    CHECK(results[i].trunk->layer == 1);
    CHECK(results[i].trunk->inputs.size() ==
          (requests[i].prompt_tokens.size() + results[i].tokens.size() - 1) *
              TinyConfig().hidden_size);
  }
  const auto plain = engine->LogProbs(Score(requests, results, false));
  const auto reused = engine->LogProbs(Score(requests, results, true));
  REQUIRE(plain.ok());
  REQUIRE(reused.ok());
  for (size_t i = 0; i < results.size(); ++i)
    CheckClose((*reused)[i].logprobs, (*plain)[i].logprobs, 1e-5);
  // It is read: other activations give other log-probs.
  auto wrong = Score(requests, results, true);
  auto changed = std::make_shared<Trunk>(*wrong[2].trunk);
  for (float& value : changed->inputs) value = -value;
  wrong[2].trunk = changed;
  CHECK((*engine->LogProbs(wrong))[2].logprobs != (*reused)[2].logprobs);
}

TEST_CASE("a trunk that does not fit is refused by name", "[generation]") {
  auto engine = MakeEngine();
  auto adapter = RandomAdapter();
  auto requests = Requests(2);
  const SamplingOptions sampling{.temperature = 1.0, .max_new_tokens = 4};
  const auto message = [](const auto& result) {
    CHECK(result.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(result.status().message());
  };
  requests[1].keep_trunk = 1;
  CHECK(message(engine->Generate(requests, sampling, adapter.get())) ==
        "'s1': trunk of layer 1, expected 0 as for the first sample of the "
        "call");
  for (auto& request : requests) request.keep_trunk = 2;
  CHECK(message(engine->Generate(requests, sampling, adapter.get())) ==
        "'s0': trunk of layer 2, expected 1 to 1, the lowest layer that is not "
        "shared");
  CHECK(engine->Generate(requests, sampling).ok());
  for (auto& request : requests) request.keep_trunk = 1;
  const auto results = Generate(*engine, requests, sampling, adapter.get());
  auto scored = Score(requests, results, true);
  scored[1].tokens.push_back(3);
  CHECK(message(engine->LogProbs(scored)) ==
        absl::StrCat("'s1': trunk of ", scored[1].tokens.size() - 2,
                     " tokens, expected ", scored[1].tokens.size() - 1));
  scored[1].trunk = nullptr;
  CHECK(message(engine->LogProbs(scored)) ==
        "'s1': expected a trunk of the same layer for every sequence or none");
}

TEST_CASE(
    "log-probs of generated tokens equal the decoder's, with and without "
    "adapter",
    "[generation]") {
  auto engine = MakeEngine();
  auto adapter = RandomAdapter();
  for (const model::LoraAdapter* a :
       {static_cast<model::LoraAdapter*>(nullptr), adapter.get()}) {
    const auto requests = Requests(6);
    const auto results = Generate(
        *engine, requests, {.temperature = 0.7, .max_new_tokens = 30}, a);
    for (size_t i = 0; i < requests.size(); ++i) {
      CHECK(results[i].tokens.size() == 30);
      CHECK(results[i].finish_reason == FinishReason::kLength);
      CheckClose(results[i].logprobs,
                 DecoderLogProbs(requests[i].prompt_tokens, results[i].tokens,
                                 0.7, a));
      CheckClose(results[i].untempered_logprobs,
                 DecoderLogProbs(requests[i].prompt_tokens, results[i].tokens,
                                 1.0, a));
    }
  }
}

TEST_CASE(
    "an adapter beside the weights generates what the merged weights generate",
    "[generation]") {
  auto adapter = RandomAdapter();
  auto merged = model::Merge(*TinyModel(), *adapter);
  REQUIRE(merged.ok());
  auto beside = MakeEngine();
  auto inside = MakeEngine({}, *merged);
  const auto a =
      Generate(*beside, Requests(4), {.temperature = 0, .max_new_tokens = 30},
               adapter.get());
  const auto b =
      Generate(*inside, Requests(4), {.temperature = 0, .max_new_tokens = 30});
  for (size_t i = 0; i < a.size(); ++i) CHECK(a[i].tokens == b[i].tokens);
}

TEST_CASE("the same call gives the same bits", "[generation]") {
  auto engine = MakeEngine();
  const auto a = Generate(*engine, Requests(9));
  const auto b = Generate(*engine, Requests(9));
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].tokens == b[i].tokens);
    CHECK(a[i].logprobs == b[i].logprobs);
  }
}

TEST_CASE("a sample's tokens do not depend on its neighbours", "[generation]") {
  auto engine = MakeEngine();
  const auto requests = Requests(8);
  const auto together = Generate(*engine, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK(Generate(*engine, {requests[i]})[0].tokens == together[i].tokens);
  }
  auto reseeded = requests;
  for (size_t i = 1; i < reseeded.size(); ++i) reseeded[i].seed += 1000;
  const auto other = Generate(*engine, reseeded);
  CHECK(other[0].tokens == together[0].tokens);
  CHECK(other[1].tokens != together[1].tokens);
}

TEST_CASE(
    "replicas share the prefill of their prompt and equal separate prompts",
    "[generation]") {
  auto engine = MakeEngine();
  for (int length :
       {16, 21, 1}) {  // A whole page, a page and a part, one token.
    std::vector<GenerationRequest> replicas;
    for (uint64_t i = 0; i < 4; ++i) {
      replicas.push_back(
          {.id = "r", .prompt_tokens = Prompt(length), .seed = i});
    }
    const auto shared = Generate(*engine, replicas);
    CHECK(engine->statistics().prompt_tokens == length);
    for (size_t i = 0; i < replicas.size(); ++i) {
      const auto alone = Generate(*engine, {replicas[i]});
      CHECK(alone[0].tokens == shared[i].tokens);
      CheckClose(alone[0].logprobs, shared[i].logprobs);
    }
    CHECK(shared[0].tokens != shared[1].tokens);
  }
}

TEST_CASE(
    "few places, small prefill passes and a tight cache change nothing but "
    "time",
    "[generation]") {
  auto wide = MakeEngine();
  auto narrow = MakeEngine({.max_rows = 3, .prefill_tokens = 16});
  const auto requests = Requests(10);
  const auto a = Generate(*wide, requests);
  const auto b = Generate(*narrow, requests);
  const uint64_t page = wide->statistics().kv_page_bytes;
  auto tight = MakeEngine({.kv_cache_bytes = 9 * page});
  const auto c = Generate(*tight, requests);
  CHECK(tight->statistics().kv_cache_bytes <= 9 * page);
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].tokens == b[i].tokens);
    CHECK(a[i].tokens == c[i].tokens);
  }
}

TEST_CASE("a sample ends at a stop token, which it keeps", "[generation]") {
  std::vector<int32_t> all(97);
  std::iota(all.begin(), all.end(), 0);
  auto engine = MakeEngine({.stop_tokens = all});
  std::set<std::string> seen;
  auto results = engine->Generate(
      Requests(3), {.temperature = 1, .max_new_tokens = 9}, nullptr, {},
      [&](const GenerationResult& r) { seen.insert(r.id); });
  REQUIRE(results.ok());
  for (const auto& result : *results) {
    CHECK(result.tokens.size() == 1);
    CHECK(result.finish_reason == FinishReason::kStop);
  }
  CHECK(seen == std::set<std::string>{"s0", "s1", "s2"});
}

TEST_CASE("a response is cut where the context ends", "[generation]") {
  auto engine = MakeEngine();
  const auto results = Generate(
      *engine, {{.id = "long", .prompt_tokens = Prompt(120), .seed = 1}});
  CHECK(results[0].tokens.size() == 8);
  CHECK(results[0].finish_reason == FinishReason::kLength);
}

TEST_CASE("a bad prompt fails alone and says why", "[generation]") {
  auto engine = MakeEngine();
  auto requests = Requests(4);
  requests[0].prompt_tokens = Prompt(128);
  requests[1].prompt_tokens.clear();
  requests[2].prompt_tokens[3] = 97;
  auto results =
      engine->Generate(requests, {.temperature = 1, .max_new_tokens = 4});
  REQUIRE(results.ok());
  for (int i = 0; i < 3; ++i) {
    CHECK((*results)[i].finish_reason == FinishReason::kFailed);
    CHECK((*results)[i].status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string((*results)[i].status.message())
              .find(absl::StrCat("s", i)) != std::string::npos);
  }
  CHECK(std::string((*results)[0].status.message()).find("128") !=
        std::string::npos);
  CHECK((*results)[3].status.ok());
  CHECK(engine->Generate({}, {.temperature = 1})->empty());
}

TEST_CASE(
    "the statistics state the bytes of a cached token by formula and what the "
    "cache holds",
    "[generation]") {
  auto config = TinyConfig();
  config.head_dim = 32;
  auto engine = MakeEngine({}, TinyModel(config));
  Generate(*engine, Requests(4));
  const EngineStatistics& s = engine->statistics();
  CHECK(s.kv_bytes_per_token == 2 * 3 * 2 * 32 * 4);
  // Whole vectors: nothing is padded.
  CHECK(s.kv_page_bytes == 16 * s.kv_bytes_per_token);
  CHECK(s.kv_capacity_tokens >= 4 * 16);
  CHECK(s.kv_capacity_tokens % 16 == 0);
  const double held = static_cast<double>(s.kv_allocated_bytes) /
                      static_cast<double>(s.kv_capacity_tokens);
  CHECK(held >= s.kv_bytes_per_token);
  CHECK(held <= 1.05 * s.kv_bytes_per_token);
  // A head of 10 has its values padded to 16.
  auto padded = MakeEngine();
  Generate(*padded, Requests(1));
  CHECK(padded->statistics().kv_bytes_per_token == 2 * 3 * 2 * 10 * 4);
  CHECK(padded->statistics().kv_page_bytes == 16 * 3 * 2 * (10 + 16) * 4);
}

TEST_CASE(
    "a sample that the cache can never hold is RESOURCE_EXHAUSTED, others go "
    "on",
    "[generation]") {
  auto probe = MakeEngine();
  Generate(*probe, Requests(1));
  auto engine =
      MakeEngine({.kv_cache_bytes = 5 * probe->statistics().kv_page_bytes});
  std::vector<GenerationRequest> requests = {
      {.id = "big", .prompt_tokens = Prompt(100)},
      {.id = "small", .prompt_tokens = Prompt(8)}};
  auto results =
      engine->Generate(requests, {.temperature = 1, .max_new_tokens = 10});
  REQUIRE(results.ok());
  CHECK((*results)[0].status.code() == absl::StatusCode::kResourceExhausted);
  CHECK((*results)[1].tokens.size() == 10);
  auto scores = engine->LogProbs(
      {{.id = "big", .tokens = Prompt(100), .first_scored = 4}});
  REQUIRE(scores.ok());
  CHECK((*scores)[0].status.code() == absl::StatusCode::kResourceExhausted);
}

TEST_CASE("MostNewTokens is just what the cache can hold", "[generation]") {
  auto probe = MakeEngine();
  Generate(*probe, Requests(1));
  CHECK(probe->MostNewTokens(8) == probe->model().config().context - 8);
  auto engine =
      MakeEngine({.kv_cache_bytes = 5 * probe->statistics().kv_page_bytes});
  for (const int length : {1, 15, 16, 17, 40, 64, 100}) {
    INFO(length);
    const auto most = static_cast<int>(engine->MostNewTokens(length));
    const auto run = [&](int tokens) {
      return engine->Generate({{.id = "a", .prompt_tokens = Prompt(length)}},
                              {.temperature = 1, .max_new_tokens = tokens});
    };
    const auto over = run(most + 1);
    REQUIRE(over.ok());
    CHECK(absl::IsResourceExhausted((*over)[0].status));
    if (most == 0) continue;
    const auto fits = run(most);
    REQUIRE(fits.ok());
    CHECK((*fits)[0].tokens.size() == static_cast<size_t>(most));
  }
}

TEST_CASE("NaN in the logits fails the sample with DATA_LOSS", "[generation]") {
  auto base = TinyModel();
  auto broken = base->TrainableCopy();
  REQUIRE(broken.ok());
  {
    at::NoGradGuard no_grad;
    for (auto& named : (*broken)->Parameters()) {
      if (named.name == "model.embed_tokens.weight") named.tensor[5].fill_(NAN);
    }
  }
  auto engine = MakeEngine({}, *broken);
  auto results = engine->Generate({{.id = "bad", .prompt_tokens = {5, 6}}},
                                  {.temperature = 1});
  REQUIRE(results.ok());
  CHECK((*results)[0].status.code() == absl::StatusCode::kDataLoss);
  CHECK((*results)[0].finish_reason == FinishReason::kFailed);
  auto scores =
      engine->LogProbs({{.id = "bad", .tokens = {5, 6, 7}, .first_scored = 1}});
  REQUIRE(scores.ok());
  CHECK((*scores)[0].status.code() == absl::StatusCode::kDataLoss);
}

TEST_CASE("a stop request ends unfinished samples as cancelled",
          "[generation]") {
  auto engine = MakeEngine({.max_rows = 2});
  std::stop_source source;
  auto requests = Requests(5);
  int finished = 0;
  auto results = engine->Generate(
      requests, {.temperature = 1, .max_new_tokens = 20}, nullptr,
      source.get_token(), [&](const GenerationResult&) {
        if (++finished == 2) source.request_stop();
      });
  REQUIRE(results.ok());
  CHECK((*results)[0].finish_reason == FinishReason::kLength);
  CHECK((*results)[4].finish_reason == FinishReason::kCancelled);
  CHECK((*results)[4].status.ok());
  CHECK(finished == 5);
  CHECK(engine
            ->LogProbs({{.id = "x", .tokens = Prompt(9)}}, nullptr,
                       source.get_token())
            .status()
            .code() == absl::StatusCode::kCancelled);
}

TEST_CASE("samples have their own sampling options and stop tokens",
          "[generation]") {
  auto engine = MakeEngine();
  auto requests = Requests(3);
  requests[0].sampling = SamplingOptions{.temperature = 0, .max_new_tokens = 5};
  std::vector<int32_t> all(97);
  std::iota(all.begin(), all.end(), 0);
  requests[1].stop_tokens = all;
  const auto results = Generate(*engine, requests);
  CHECK(results[0].tokens.size() == 5);
  CHECK(results[0].logprobs == std::vector<float>(5, 0.0F));
  CHECK(results[1].tokens.size() == 1);
  CHECK(results[1].finish_reason == FinishReason::kStop);
  CHECK(results[2].tokens.size() == 40);
}

TEST_CASE(
    "min_new_tokens bans stop tokens until then, and the log-probs show "
    "it",
    "[generation]") {
  std::vector<int32_t> most(96);  // All but token 96 end a response.
  std::iota(most.begin(), most.end(), 0);
  auto engine = MakeEngine({.stop_tokens = most});
  const auto results =
      Generate(*engine, Requests(2),
               {.temperature = 1, .min_new_tokens = 4, .max_new_tokens = 30});
  for (const auto& result : results) {
    REQUIRE(result.tokens.size() >= 5);
    for (int i = 0; i < 4; ++i) {
      CHECK(result.tokens[i] == 96);
      CHECK(result.logprobs[i] == Approx(0).margin(1e-6));
      CHECK(result.untempered_logprobs[i] < -0.1F);
    }
    CHECK(result.finish_reason == FinishReason::kStop);
  }
}

TEST_CASE("the repetition penalty lowers tokens of prompt and response",
          "[generation]") {
  auto engine = MakeEngine();
  const auto plain = Generate(*engine, Requests(4), {.temperature = 0});
  const auto punished = Generate(*engine, Requests(4),
                                 {.temperature = 0, .repetition_penalty = 10});
  const auto repeats = [&](const std::vector<GenerationResult>& results) {
    int count = 0;
    const auto requests = Requests(4);
    for (size_t i = 0; i < results.size(); ++i) {
      std::set<int32_t> seen(requests[i].prompt_tokens.begin(),
                             requests[i].prompt_tokens.end());
      for (const int32_t token : results[i].tokens)
        count += seen.insert(token).second ? 0 : 1;
    }
    return count;
  };
  CHECK(repeats(punished) < repeats(plain));
  // Untempered log-probs are the model's own, whatever was done to the draw.
  CheckClose(punished[0].untempered_logprobs,
             DecoderLogProbs(Requests(4)[0].prompt_tokens, punished[0].tokens,
                             1.0, nullptr));
}

TEST_CASE(
    "top_logprobs lists the likeliest tokens of the model's own "
    "distribution",
    "[generation]") {
  auto engine = MakeEngine();
  auto requests = Requests(1);
  requests[0].top_logprobs = 97;
  const auto result =
      Generate(*engine, requests, {.temperature = 0.5, .max_new_tokens = 6})[0];
  REQUIRE(result.top_logprobs.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    const auto& top = result.top_logprobs[i];
    REQUIRE(top.size() == 97);
    double total = 0;
    for (size_t k = 0; k < top.size(); ++k) {
      total += std::exp(double{top[k].logprob});
      if (k > 0) CHECK(top[k].logprob <= top[k - 1].logprob);
      if (top[k].token == result.tokens[i])
        CHECK(top[k].logprob ==
              Approx(result.untempered_logprobs[i]).margin(1e-5));
    }
    CHECK(total == Approx(1).margin(1e-4));
  }
  // The same of given tokens, but for rounding.
  std::vector<int32_t> tokens = requests[0].prompt_tokens;
  const auto first = static_cast<int>(tokens.size());
  tokens.insert(tokens.end(), result.tokens.begin(), result.tokens.end());
  ScoreRequest given{.id = "a", .tokens = tokens, .first_scored = first};
  given.top_logprobs = 5;
  const auto scores = engine->LogProbs({given});
  REQUIRE(scores.ok());
  REQUIRE((*scores)[0].top_logprobs.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    const auto& top = (*scores)[0].top_logprobs[i];
    REQUIRE(top.size() == 5);
    for (size_t k = 0; k < 5; ++k) {
      CHECK(top[k].token == result.top_logprobs[i][k].token);
      CHECK(top[k].logprob ==
            Approx(result.top_logprobs[i][k].logprob).margin(1e-4));
      if (top[k].token == result.tokens[i])
        CHECK(top[k].logprob == (*scores)[0].logprobs[i]);
    }
  }
  given.top_logprobs = 101;
  CHECK(absl::IsInvalidArgument((*engine->LogProbs({given}))[0].status));
  requests[0].top_logprobs = 101;
  CHECK(engine->Generate(requests, {.temperature = 1}).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE(
    "a sample is watched token by token and ends when its watcher says "
    "so",
    "[generation]") {
  auto engine = MakeEngine();
  auto requests = Requests(2);
  std::vector<size_t> sizes;
  requests[0].on_token = [&](const GenerationResult& result) {
    sizes.push_back(result.tokens.size());
    return result.tokens.size() < 7;
  };
  const auto results = Generate(*engine, requests);
  CHECK(sizes == std::vector<size_t>{1, 2, 3, 4, 5, 6, 7});
  CHECK(results[0].tokens.size() == 7);
  CHECK(results[0].finish_reason == FinishReason::kStop);
  CHECK(results[1].tokens.size() == 40);
}

// Submits `requests`, the second half after `later` steps.
std::vector<GenerationResult> Serve(Engine& engine,
                                    std::vector<GenerationRequest> requests,
                                    int later) {
  std::vector<GenerationResult> results(requests.size());
  const auto submit = [&](size_t i) {
    requests[i].sampling =
        SamplingOptions{.temperature = 1.0, .max_new_tokens = 40};
    REQUIRE(
        engine
            .Submit(requests[i],
                    [&, i](GenerationResult&& r) { results[i] = std::move(r); })
            .ok());
  };
  for (size_t i = 0; i < requests.size() / 2; ++i) submit(i);
  for (int step = 0; step < later; ++step) REQUIRE(*engine.Step());
  for (size_t i = requests.size() / 2; i < requests.size(); ++i) submit(i);
  CHECK(engine.running() + engine.waiting() > 0);
  while (*engine.Step()) {
  }
  CHECK(engine.running() + engine.waiting() == 0);
  return results;
}

TEST_CASE("samples that come while others run get what they would get alone",
          "[generation]") {
  const auto expected = Generate(*MakeEngine(), Requests(8));
  for (const bool interleave : {false, true}) {
    auto engine = MakeEngine({.max_rows = 5,
                              .prefill_tokens = 16,
                              .interleave_prefill = interleave});
    const auto results = Serve(*engine, Requests(8), 3);
    for (size_t i = 0; i < results.size(); ++i) {
      CHECK(results[i].status.ok());
      CHECK(results[i].tokens == expected[i].tokens);
    }
  }
}

TEST_CASE(
    "a long prompt does not hold up running samples when prefill is "
    "interleaved",
    "[generation]") {
  auto engine = MakeEngine({.prefill_tokens = 16, .interleave_prefill = true});
  size_t drawn = 0;
  GenerationRequest first = Requests(1, 5)[0];
  first.sampling = SamplingOptions{.temperature = 1.0, .max_new_tokens = 60};
  first.on_token = [&](const GenerationResult& r) {
    drawn = r.tokens.size();
    return true;
  };
  REQUIRE(engine->Submit(first, nullptr).ok());
  REQUIRE(*engine->Step());
  GenerationRequest second{.id = "long", .prompt_tokens = Prompt(100, 3)};
  second.sampling = SamplingOptions{.temperature = 1.0, .max_new_tokens = 2};
  REQUIRE(engine->Submit(second, nullptr).ok());
  for (size_t step = 0; step < 7; ++step) {  // 100 tokens, 16 a pass.
    REQUIRE(engine->Step().ok());
    CHECK(drawn == step + 2);
  }
  engine->CancelAll();
}

TEST_CASE("passes of prompts are wide in batches of small models only",
          "[generation]") {
  for (const bool interleave : {false, true}) {
    auto engine = MakeEngine({.interleave_prefill = interleave});
    for (int i = 0; i < 25; ++i) {
      REQUIRE(engine
                  ->Submit({.id = absl::StrCat(i),
                            .prompt_tokens = Prompt(100, i + 1),
                            .sampling = SamplingOptions{.max_new_tokens = 2}},
                           nullptr)
                  .ok());
    }
    REQUIRE(engine->Step().ok());
    CHECK(engine->statistics().prompt_tokens == (interleave ? 512 : 2048));
    engine->CancelAll();
  }
}

TEST_CASE("cancelling a sample leaves the others alone", "[generation]") {
  auto engine = MakeEngine({.max_rows = 2});
  std::map<std::string, GenerationResult> results;
  auto requests = Requests(4);
  const auto expected = Generate(*MakeEngine(), requests);
  for (auto& request : requests) {
    request.sampling =
        SamplingOptions{.temperature = 1.0, .max_new_tokens = 40};
    REQUIRE(engine
                ->Submit(request,
                         [&](GenerationResult&& r) {
                           const std::string id = r.id;
                           results[id] = std::move(r);
                         })
                .ok());
  }
  for (int i = 0; i < 5; ++i) REQUIRE(*engine->Step());
  CHECK(absl::IsFailedPrecondition(engine->Generate(requests, {}).status()));
  engine->Cancel("s0");  // Runs.
  engine->Cancel("s3");  // Waits.
  engine->Cancel("nobody");
  while (*engine->Step()) {
  }
  CHECK(results["s0"].finish_reason == FinishReason::kCancelled);
  CHECK(!results["s0"].tokens.empty());
  CHECK(results["s3"].finish_reason == FinishReason::kCancelled);
  CHECK(results["s3"].tokens.empty());
  CHECK(results["s1"].tokens == expected[1].tokens);
  CHECK(results["s2"].tokens == expected[2].tokens);
}

TEST_CASE(
    "weights change between two passes and the spans tell which drew what",
    "[generation]") {
  auto engine = MakeEngine();
  auto adapter = RandomAdapter();
  GenerationRequest request = Requests(1)[0];
  request.sampling = SamplingOptions{.temperature = 0, .max_new_tokens = 20};
  GenerationResult result;
  REQUIRE(engine->SetPolicy(nullptr, nullptr, 4).ok());
  REQUIRE(engine
              ->Submit(request,
                       [&](GenerationResult&& r) { result = std::move(r); })
              .ok());
  for (int i = 0; i < 8; ++i) REQUIRE(*engine->Step());
  REQUIRE(engine->SetPolicy(nullptr, adapter, 5).ok());
  // What is measured in between does not change the policy in force.
  REQUIRE(engine->LogProbs({{.id = "x", .tokens = Prompt(9)}}).ok());
  while (*engine->Step()) {
  }
  REQUIRE(result.tokens.size() == 20);
  // Not as an operand of CHECK: spans have no printed form.
  const bool as_drawn =
      result.spans == std::vector<TokenSpan>{{0, 8, 4}, {8, 20, 5}};
  CHECK(as_drawn);
  const auto base = Generate(*MakeEngine(), {request}, *request.sampling)[0];
  CHECK(std::equal(base.tokens.begin(), base.tokens.begin() + 8,
                   result.tokens.begin()));
  CHECK(base.tokens != result.tokens);
  // Another model of the same shape, none of another.
  auto config = TinyConfig();
  auto other = *model::LanguageModel::Random(config, 8);
  CHECK(engine->SetPolicy(other, nullptr, 6).ok());
  config.layers = 2;
  CHECK(engine->SetPolicy(*model::LanguageModel::Random(config, 8), nullptr, 7)
            .code() == absl::StatusCode::kInvalidArgument);
  const auto swapped = Generate(*engine, {request}, *request.sampling)[0];
  CHECK(swapped.tokens != base.tokens);
}

TEST_CASE("options out of range are refused", "[generation]") {
  CHECK(Engine::Create(TinyModel(), {.max_rows = 0}).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(Engine::Create(TinyModel(), {.prefill_tokens = 1}).status().code() ==
        absl::StatusCode::kInvalidArgument);
  auto engine = MakeEngine();
  auto config = TinyConfig();
  config.layers = 2;
  auto other = model::LoraAdapter::Create({.rank = 2}, config, 1);
  CHECK(engine->Generate(Requests(1), {}, other->get()).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(engine->Generate(Requests(1), {.temperature = -1}).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("LogProbs equals the decoder's log-probs for any grouping",
          "[generation]") {
  auto adapter = RandomAdapter();
  std::vector<ScoreRequest> requests;
  for (int i = 0; i < 7; ++i) {
    // Two share a prefix; lengths are odd; one scores its last token only.
    auto tokens = Prompt(18);
    const auto more = Prompt(5 + 3 * i, i + 2);
    tokens.insert(tokens.end(), more.begin(), more.end());
    requests.push_back(
        {.id = absl::StrCat("q", i), .tokens = tokens, .first_scored = 18});
  }
  requests[5].first_scored = 1;
  requests[6].first_scored = static_cast<int>(requests[6].tokens.size()) - 1;
  for (const model::LoraAdapter* a :
       {static_cast<model::LoraAdapter*>(nullptr), adapter.get()}) {
    for (EngineOptions options : {EngineOptions{}, EngineOptions{.max_rows = 2,
                                                   .prefill_tokens = 16}}) {
      auto engine = MakeEngine(options);
      auto scores = engine->LogProbs(requests, a);
      REQUIRE(scores.ok());
      for (size_t i = 0; i < requests.size(); ++i) {
        const auto& r = requests[i];
        REQUIRE((*scores)[i].status.ok());
        CheckClose(
            (*scores)[i].logprobs,
            DecoderLogProbs(
                {r.tokens.begin(), r.tokens.begin() + r.first_scored},
                {r.tokens.begin() + r.first_scored, r.tokens.end()}, 1.0, a));
      }
    }
  }
}

TEST_CASE("LogProbs names a bad sequence and scores the others",
          "[generation]") {
  auto engine = MakeEngine();
  auto scores =
      engine->LogProbs({{.id = "a", .tokens = {1, 2, 3}, .first_scored = 0},
                        {.id = "b", .tokens = {}, .first_scored = 1},
                        {.id = "c", .tokens = {1, 2, 3}, .first_scored = 3},
                        {.id = "d", .tokens = {1, 2, 3}, .first_scored = 2}});
  REQUIRE(scores.ok());
  CHECK((*scores)[0].status.code() == absl::StatusCode::kInvalidArgument);
  CHECK((*scores)[1].status.code() == absl::StatusCode::kInvalidArgument);
  CHECK((*scores)[2].status.ok());
  CHECK((*scores)[2].logprobs.empty());
  CHECK((*scores)[3].logprobs.size() == 1);
}

}  // namespace
}  // namespace mpo::generation
