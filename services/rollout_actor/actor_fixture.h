// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>

#include "mpo/model/lora.h"
#include "mpo/weights/published_weights.h"
#include "services/rollout_actor/fake_peers.h"
#include "services/rollout_actor/rollout_actor_engine.h"
#include "tests/support/tiny_tokenizer.h"

namespace mpo::rollout_actor {

inline model::ModelConfig TinyConfig() {
  model::ModelConfig config;
  config.vocab_size = text::kTinyVocabSize;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 16;
  config.context = 256;
  config.tie_embeddings = true;
  config.initializer_range = 0.2;
  config.eos_tokens = {text::kTinyImEnd};
  return config;
}

// Everything an engine needs, with a tiny random model and a fake mesh.
struct ActorFixture {
  std::filesystem::path dir;
  FakePeers peers;
  prometheus::Registry registry;
  RolloutActorMetrics metrics{registry};
  std::unique_ptr<text::Tokenizer> tokenizer;
  absl::StatusOr<text::ChatTemplate> chat =
      text::ChatTemplate(text::ChatFamily::kChatMl, "", "");
  std::unique_ptr<PolicyReplica> policy;
  std::unique_ptr<UnitRunner> runner;
  RolloutActorOptions options;
  std::unique_ptr<RolloutActorEngine> engine;

  ActorFixture() {
    char name[] = "/tmp/mpo_actor_XXXXXX";
    dir = mkdtemp(name);
    REQUIRE(text::WriteTinyTokenizer(dir).ok());
    tokenizer = std::make_unique<text::Tokenizer>(*text::Tokenizer::Load(dir));
    auto model = model::LanguageModel::Random(TinyConfig(), /*seed=*/7);
    INFO(model.status());
    REQUIRE(model.ok());
    auto made = PolicyReplica::Create(*model, {});
    INFO(made.status());
    REQUIRE(made.ok());
    policy = *std::move(made);
    options.retry = {absl::Milliseconds(1), absl::Milliseconds(5)};
    options.heartbeat = absl::Milliseconds(5);
    options.lease_wait = absl::Milliseconds(20);
    options.after_failure = absl::Milliseconds(1);
    runner = std::make_unique<UnitRunner>(Tools(), options.retry);
  }
  ~ActorFixture() {
    engine.reset();
    std::filesystem::remove_all(dir);
  }

  UnitTools Tools() {
    return {*policy, *tokenizer, chat, peers, metrics, Clock::Real()};
  }
  void Start() {
    engine = std::make_unique<RolloutActorEngine>(Tools(), *runner, options);
  }

  // Adapter weights; `value` is put into one element of a B matrix.
  static FetchedWeights Weights(PolicyVersion version, float value = 0) {
    const model::LoraConfig lora = {.rank = 2, .alpha = 4, .layers = 1};
    const auto adapter =
        *model::LoraAdapter::Create(lora, TinyConfig(), /*seed=*/1);
    FetchedWeights weights;
    for (auto& named : adapter->Parameters()) {
      named.tensor = named.tensor.detach().clone();
      weights.tensors.push_back(named);
    }
    weights.tensors[1].tensor.view({-1})[0] = value;
    const auto published = *weights::PublishedWeights::Create(
        version, "adapter", model::ToPeftJson(lora, TinyConfig()),
        weights.tensors);
    weights.manifest = published->manifest();
    return weights;
  }

  static WorkUnit Unit(const std::string& id, PolicyVersion min_version,
                       int samples = 3) {
    WorkUnit unit;
    unit.id = id;
    unit.lease_epoch = 1;
    unit.step = 1;
    unit.min_policy_version = min_version;
    unit.rubric_sha256 = std::string(64, 'a');
    unit.monitor_rubric_sha256 = std::string(64, 'b');
    unit.sampling = {.temperature = 0.8, .max_new_tokens = 12};
    for (int i = 0; i < samples; ++i) {
      Sample sample;
      sample.key = absl::StrCat(id, "#", i);
      sample.step = 1;
      sample.replica = i;
      sample.seed = 100 + i;
      sample.prompt.id = "p";
      sample.prompt.task = "essay";
      sample.prompt.messages = {{"user", "Write about parks."}};
      sample.prompt.subject = "parks";
      unit.samples.push_back(sample);
    }
    return unit;
  }
};

}  // namespace mpo::rollout_actor
