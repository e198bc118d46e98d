// SPDX-License-Identifier: Apache-2.0
#include "mpo/config/run_config.h"

#include <google/protobuf/util/message_differencer.h>

#include <catch2/catch.hpp>
#include <filesystem>

namespace mpo::config {
namespace {

using Catch::Contains;

constexpr char kLeast[] =
    "run: {name: r, dir: runs/r, steps: 4}\n"
    "task: essay\n"
    "data: {train: t.jsonl}\n"
    "policy: {model: m}\n"
    "reward: {rubric: r.yaml}\n";

std::string Problems(const std::string& yaml,
                     const std::vector<std::string>& overrides = {}) {
  const auto loaded = ParseRunConfig(yaml, "a.yaml", overrides);
  REQUIRE(absl::IsInvalidArgument(loaded.status()));
  return std::string(loaded.status().message());
}

v1::RunConfig Good(const std::string& yaml,
                   const std::vector<std::string>& overrides = {}) {
  const auto loaded = ParseRunConfig(yaml, "a.yaml", overrides);
  INFO(loaded.status());
  REQUIRE(loaded.ok());
  return loaded->config;
}

}  // namespace

TEST_CASE("ParseRunConfig fills in defaults", "[config]") {
  const v1::RunConfig config = Good(kLeast);
  CHECK(config.run().name() == "r");
  CHECK(config.run().seed() == 0);
  CHECK(config.learner().algorithm() == "ppo");
  CHECK(config.learner().learning_rate() == 3e-6);
  CHECK(config.reward().http().attempts() == 4);
  CHECK(config.reward().monitor_initial());
  CHECK(config.mesh().orchestrator() == "127.0.0.1:7070");
  CHECK_FALSE(config.policy().has_lora());
}

TEST_CASE("ParseRunConfig tells an adapter from full weights", "[config]") {
  CHECK_FALSE(
      Good(std::string(kLeast), {"policy.lora=null"}).policy().has_lora());
  const v1::RunConfig config = Good(kLeast, {"policy.lora={rank: 4}"});
  CHECK(config.policy().lora().rank() == 4);
  CHECK(config.policy().lora().alpha() == 32);
  CHECK(config.policy().lora().target_modules_size() == 7);
  CHECK(Good(kLeast, {"policy.lora.target_modules=[q_proj]"})
            .policy()
            .lora()
            .target_modules_size() == 1);
}

TEST_CASE("A preset changes the defaults and nothing the file gives",
          "[config]") {
  const v1::Learner plain = Good(kLeast).learner();
  CHECK(plain.preset() == "none");
  CHECK(plain.score_placement() == "last_token");
  CHECK(plain.loss_block() == 0);
  const v1::Learner paper =
      Good(kLeast, {"learner.preset=paper", "learner.loss_block=4"}).learner();
  CHECK(paper.score_placement() == "after_end");
  CHECK(paper.value_model() == "separate");
  CHECK(paper.whitening_epsilon_in() == "variance");
  CHECK(paper.whitening_block() == 16);
  CHECK(paper.missing_eos_penalty() == 1);
  CHECK(paper.loss_block() == 4);
  CHECK(paper.kl_coef() == plain.kl_coef());
  CHECK_THAT(Problems(kLeast, {"learner.preset=papier"}),
             Contains("learner.preset: expected one of none, paper"));
}

TEST_CASE("ParseRunConfig reports every problem at once with its line",
          "[config]") {
  const std::string problems = Problems(
      "run: {name: r, dir: runs/r, steps: 0}\n"
      "task: poem\n"
      "data: {train: t.jsonl}\n"
      "policy: {model: m, size: 3}\n"
      "reward: {rubric: ''}\n"
      "surprise: 1\n"
      "learner:\n"
      "  epochs: many\n"
      "  learning_rate: nan\n"
      "  adam_beta1: 1.5\n"
      "  epochs: 3\n"
      "generation: 5\n"
      "evaluation: {every: [1]}\n");
  for (const char* expected :
       {"a.yaml:1: run.steps: expected at least 1, got 0",
        "a.yaml:2: task: expected one of essay, math, got \"poem\"",
        "a.yaml:4: policy.size: unknown key, expected one of model, lora",
        "a.yaml:5: reward.rubric: expected a value, got none",
        "a.yaml:6: surprise: unknown key",
        "a.yaml:8: learner.epochs: expected a whole number, got \"many\"",
        "a.yaml:9: learner.learning_rate: expected a number, got \"nan\"",
        "a.yaml:10: learner.adam_beta1: expected at most 0.999999, got 1.5",
        "a.yaml:11: learner.epochs: the key is given twice",
        "a.yaml:12: generation: expected a section",
        "a.yaml:13: evaluation.every: expected one value"}) {
    CHECK_THAT(problems, Contains(expected));
  }
}

TEST_CASE("ParseRunConfig asks for what is required", "[config]") {
  const std::string problems = Problems("");
  for (const char* key : {"run.name", "run.dir", "run.steps", "task",
                          "data.train", "policy.model", "reward.rubric"}) {
    CHECK_THAT(problems,
               Contains(std::string(key) + ": expected a value, got none"));
  }
}

TEST_CASE("ParseRunConfig says where YAML is broken", "[config]") {
  CHECK_THAT(Problems("run: {\n  name: [\n"), Contains("not valid YAML"));
  CHECK_THAT(Problems("- 1\n"), Contains("expected a section"));
  CHECK_THAT(Problems("? [a, b]\n: 1\n"), Contains("plain word"));
}

TEST_CASE("Overrides stand in place of the file", "[config]") {
  const auto loaded =
      ParseRunConfig(kLeast, "a.yaml",
                     {"run.seed=7", "learner.epochs=2", "mesh.orchestrator=h:1",
                      "reward.http.timeout=0.5"});
  REQUIRE(loaded.ok());
  CHECK(loaded->config.run().seed() == 7);
  CHECK(loaded->config.run().name() == "r");
  CHECK(loaded->config.learner().epochs() == 2);
  CHECK(loaded->config.reward().http().timeout() == 0.5);
  CHECK(loaded->config.reward().rubric() == "r.yaml");
  CHECK(loaded->given.count("mesh.orchestrator") == 1);
  CHECK(loaded->given.count("mesh.reward_server") == 0);
  CHECK_THAT(Problems(kLeast, {"learner.epochs=0"}),
             Contains("--set: learner.epochs: expected at least 1"));
  CHECK_THAT(Problems(kLeast, {"learner.nothing=0"}),
             Contains("--set: learner.nothing: unknown key"));
  CHECK_THAT(Problems(kLeast, {"epochs"}), Contains("section.key=value"));
  CHECK_THAT(Problems(kLeast, {"task.x=1"}), Contains("is not a section"));
}

TEST_CASE("ToYaml reads back to an equal configuration", "[config]") {
  v1::RunConfig config = Good(kLeast, {"policy.lora={rank: 4}"});
  config.mutable_run()->set_name("a \"b\" \\ c\n");
  config.mutable_learner()->set_learning_rate(0.1);
  const v1::RunConfig again = Good(ToYaml(config));
  CHECK(google::protobuf::util::MessageDifferencer::Equals(config, again));
}

TEST_CASE("ParseRunConfig reads a list of sections", "[config]") {
  const std::string yaml =
      std::string(kLeast) +
      "learner:\n"
      "  engines:\n"
      "    - {kind: sglang, url: 'http://a:1', directory: d}\n"
      "    - kind: directory\n"
      "      directory: e\n"
      "      every: 5\n";
  const v1::RunConfig config = Good(yaml);
  REQUIRE(config.learner().engines_size() == 2);
  CHECK(config.learner().engines(0).url() == "http://a:1");
  CHECK(config.learner().engines(0).every() == 1);
  CHECK(config.learner().engines(0).kept() == 2);
  CHECK(config.learner().engines(1).every() == 5);
  const v1::RunConfig again = Good(ToYaml(config));
  CHECK(google::protobuf::util::MessageDifferencer::Equals(config, again));
  // They decide nothing about the result.
  CHECK(Sha256Of(config) == Sha256Of(Good(kLeast)));
  CHECK(Good(kLeast, {"learner.engines=null"}).learner().engines_size() == 0);
  CHECK(Good(kLeast, {"learner.engines=[{kind: directory, directory: d}]"})
            .learner()
            .engines_size() == 1);
}

TEST_CASE("ParseRunConfig names the item of a list that is wrong", "[config]") {
  const std::string problems =
      Problems(std::string(kLeast) +
               "learner:\n"
               "  engines:\n"
               "    - {kind: directory, directory: d}\n"
               "    - {kind: other, every: 0, port: 1}\n");
  CHECK_THAT(problems, Contains("a.yaml:9: learner.engines[1].kind: expected "
                                "one of sglang, vllm, directory"));
  CHECK_THAT(problems, Contains("learner.engines[1].every: expected at least"));
  CHECK_THAT(problems, Contains("learner.engines[1].port: unknown key"));
  CHECK_THAT(problems,
             Contains("learner.engines[1].directory: expected a value"));
  CHECK_THAT(Problems(kLeast, {"learner.engines={kind: directory}"}),
             Contains("expected a list of sections"));
}

TEST_CASE("Sha256Of ignores where the run lives and on how many ranks",
          "[config]") {
  const v1::RunConfig config = Good(kLeast);
  CHECK(Sha256Of(config).size() == 64);
  CHECK(Sha256Of(config) == Sha256Of(Good(kLeast, {"run.dir=elsewhere"})));
  CHECK(Sha256Of(config) == Sha256Of(Good(kLeast, {"mesh.actors=3"})));
  CHECK(Sha256Of(config) == Sha256Of(Good(kLeast, {"learner.ranks=3"})));
  CHECK(DifferencesOf(config, Good(kLeast, {"learner.ranks=3"})).empty());
  CHECK(Sha256Of(config) != Sha256Of(Good(kLeast, {"run.seed=1"})));
  CHECK(Sha256Of(config) != Sha256Of(Good(kLeast, {"policy.lora={}"})));
}

TEST_CASE("LoadRunConfig names a file that is not there", "[config]") {
  const auto loaded = LoadRunConfig("/nowhere/a.yaml");
  CHECK(absl::IsNotFound(loaded.status()));
  CHECK_THAT(std::string(loaded.status().message()),
             Contains("/nowhere/a.yaml"));
}

}  // namespace mpo::config
