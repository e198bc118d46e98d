// SPDX-License-Identifier: Apache-2.0
// A whole update of the trainer against one that TRL 0.17's PPOTrainer made of
// the same models, prompts, responses and scores (tools/make_trl_fixtures.py).
#include <torch/torch.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>

#include "mpo/model/safetensors.h"
#include "services/policy_learner/policy_trainer.h"

namespace mpo::policy_learner {
namespace {

namespace fs = std::filesystem;

const fs::path kData =
    MPO_SOURCE_DIR "/services/policy_learner/testdata/trl_ppo";
constexpr int kPad = 0, kEnd = 1;

std::map<std::string, at::Tensor> ReadAll(const fs::path& path) {
  const auto tensors = ReadSafetensors(path);
  INFO(tensors.status());
  REQUIRE(tensors.ok());
  std::map<std::string, at::Tensor> by_name;
  for (const auto& one : *tensors) by_name[one.name] = one.tensor;
  return by_name;
}

// The settings of the fixture: the paper's but for rates and block sizes.
TrainerOptions Options() {
  TrainerOptions o;
  o.algorithm = Algorithm::kPpo;
  o.learning_rate = 0.004;
  o.epochs = 3;
  o.score_placement = rl::ScorePlacement::kAfterEnd;
  o.whitening_epsilon_in = rl::EpsilonIn::kVariance;
  o.value_model = ValueModelKind::kSeparate;
  o.missing_eos_penalty = 1;
  return o;
}

std::vector<TrainingSample> Samples(std::map<std::string, at::Tensor>& run) {
  std::vector<TrainingSample> samples;
  const at::Tensor queries = run["queries"], responses = run["responses"];
  for (int64_t i = 0; i < responses.size(0); ++i) {
    TrainingSample s;
    s.rollout.sample_key = s.rollout.group = std::to_string(i);
    s.rollout.temperature = 0.7;
    for (int64_t t = 0; t < queries.size(1); ++t) {
      const auto token = static_cast<int32_t>(queries[i][t].item<int64_t>());
      if (token != kPad) s.rollout.prompt_tokens.push_back(token);
    }
    for (int64_t t = 0; t < responses.size(1); ++t) {
      const auto token = static_cast<int32_t>(responses[i][t].item<int64_t>());
      if (token == kPad) break;
      s.rollout.response_tokens.push_back(token);
      s.rollout.finish_reason =
          token == kEnd ? FinishReason::kStop : FinishReason::kLength;
      if (token == kEnd) break;
    }
    s.rollout.logprobs.assign(s.rollout.response_tokens.size(), -1);
    s.verdict.scored = true;
    s.verdict.reward = run["scores"][i].item<float>();
    samples.push_back(s);
  }
  return samples;
}

// A trainer that holds the fixture's policy, reference and value model, which
// it gets as it would from a checkpoint.
std::unique_ptr<PolicyTrainer> FixtureTrainer(
    const TrainerOptions& options, std::map<std::string, at::Tensor>& run) {
  auto policy = model::LanguageModel::Load(kData / "policy");
  auto reference = model::LanguageModel::Load(kData / "reference");
  REQUIRE(policy.ok());
  REQUIRE(reference.ok());
  auto trainer =
      PolicyTrainer::Create(*policy, options, Clock::Real(), *reference);
  REQUIRE(trainer.ok());
  std::string name = fs::temp_directory_path() / "trlXXXXXX";
  const fs::path directory = mkdtemp(name.data());
  REQUIRE((*trainer)->Save(directory).ok());
  std::vector<tensor::NamedTensor> trunk, state;
  for (const auto& [key, value] : run) {
    if (key.starts_with("value.model."))
      trunk.push_back({key.substr(6), value});
  }
  for (auto& [key, value] : ReadAll(directory / "trainer.safetensors")) {
    state.push_back({key, key == "value_head.weight"
                              ? run["value.score.weight"].flatten()
                              : value});
  }
  REQUIRE(model::WriteSafetensors(directory / "value_model.safetensors", trunk)
              .ok());
  REQUIRE(
      model::WriteSafetensors(directory / "trainer.safetensors", state).ok());
  const absl::Status loaded = (*trainer)->Load(directory);
  fs::remove_all(directory);
  INFO(loaded);
  REQUIRE(loaded.ok());
  return *std::move(trainer);
}

TEST_CASE("An update of PPO is the one TRL 0.17 makes", "[learner][trl]") {
  auto run = ReadAll(kData / "run.safetensors");
  const auto samples = Samples(run);
  const auto logged = [&](const std::string& name) {
    return run["logged." + name].item<float>();
  };
  TrainerOptions options = Options();
  auto trainer = FixtureTrainer(options, run);
  const auto before = trainer->model().Weights();
  std::map<std::string, at::Tensor> start;
  for (const auto& w : before) start[w.name] = w.tensor.detach().clone();
  const auto result = trainer->Train(1, samples);
  REQUIRE(result.ok());
  CHECK(result->metrics.at("policy_loss") ==
        Approx(logged("policy_loss")).epsilon(1e-5));
  CHECK(result->metrics.at("clip_fraction") ==
        Approx(logged("clip_fraction")).epsilon(1e-5));
  // Three steps of AdamW, each of about the learning rate.
  for (const auto& w : trainer->model().Weights()) {
    INFO(w.name);
    const at::Tensor& expected = run["after." + w.name];
    REQUIRE(expected.defined());
    const double moved = (expected - start[w.name]).abs().mean().item<double>();
    const double off =
        (expected - w.tensor.detach()).abs().mean().item<double>();
    INFO("moved by " << moved << ", off by " << off);
    CHECK(moved > 1e-3);
    CHECK(off < 1e-5 * moved);
  }
  // TRL's value head has no bias, so only the first pass can be compared.
  options.epochs = 1;
  const auto once = FixtureTrainer(options, run)->Train(1, samples);
  REQUIRE(once.ok());
  CHECK(once->metrics.at("value_loss") ==
        Approx(logged("first_value_loss")).epsilon(1e-5));
}

}  // namespace
}  // namespace mpo::policy_learner
