// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/model_directories.h"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "mpo/base/file.h"
#include "nlohmann/json.hpp"
#include "services/policy_learner/toy_task.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;
using Published = ModelDirectories::Published;

// An adapter that changes something, or whole weights.
PolicyModel Policy(bool adapter, float value = 0.5F) {
  auto policy = *PolicyModel::Create(
      ToyTask::Model(), adapter ? ToyTask::Options().lora : std::nullopt,
      /*seed=*/1);
  at::NoGradGuard no_grad;
  for (const auto& named : policy.Weights()) {
    at::Tensor(named.tensor).add_(value);
  }
  return policy;
}

Published Publish(const PolicyModel& policy, PolicyVersion version) {
  return *weights::PublishedWeights::Create(
      version, policy.kind(), policy.adapter_config(), policy.Weights());
}

std::unique_ptr<ModelDirectories> Directories(
    const fs::path& path, int kept = 2, at::ScalarType dtype = at::kFloat) {
  auto made = ModelDirectories::Create({.directory = path / "engines",
                                        .kept = kept,
                                        .dtype = dtype,
                                        .model = path / "model"},
                                       ToyTask::Model());
  INFO(made.status());
  REQUIRE(made.ok());
  return *std::move(made);
}

std::vector<std::string> Names(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST_CASE("A version is written as the model an engine can load", "[learner]") {
  const bool adapter = GENERATE(true, false);
  const TemporaryDirectory directory;
  fs::create_directories(directory.path / "model");
  std::ofstream(directory.path / "model" / "tokenizer.json") << "{}";
  const PolicyModel policy = Policy(adapter);
  const auto directories = Directories(directory.path);
  const auto written = directories->Write(Publish(policy, 3));
  INFO(written.status());
  REQUIRE(written.ok());
  CHECK(*written == directory.path / "engines" / "step_3");
  CHECK(Names(*written) ==
        std::vector<std::string>{"config.json", "generation_config.json",
                                 "model.safetensors", "mpo.json",
                                 "tokenizer.json"});
  const auto model = model::LanguageModel::Load(*written);
  INFO(model.status());
  REQUIRE(model.ok());
  const auto expected =
      adapter ? *model::Merge(*ToyTask::Model(), *policy.adapter())
              : std::shared_ptr<const model::LanguageModel>(&policy.policy(),
                                                            [](const auto*) {});
  CHECK(*(*model)->Digest() == *expected->Digest());
  const auto mark = nlohmann::json::parse(*ReadFile(*written / "mpo.json"));
  CHECK(mark["version"] == 3);
  CHECK(mark["weights_sha256"] == Publish(policy, 3)->sha256());
}

TEST_CASE("A version is written in the dtype that is asked for", "[learner]") {
  const bool adapter = GENERATE(true, false);
  const TemporaryDirectory directory;
  const auto directories = Directories(directory.path, 2, at::kBFloat16);
  const auto written = directories->Write(Publish(Policy(adapter), 3));
  INFO(written.status());
  REQUIRE(written.ok());
  const auto model =
      model::LanguageModel::Load(*written, {.dtype = at::kBFloat16});
  REQUIRE(model.ok());
  CHECK(fs::file_size(*written / "model.safetensors") <
        3 * static_cast<uint64_t>((*model)->config().parameters()));
}

TEST_CASE("The newest directories stay, and those that are held", "[learner]") {
  const TemporaryDirectory directory;
  const PolicyModel policy = Policy(true);
  const auto directories = Directories(directory.path);
  const fs::path engines = directory.path / "engines";
  fs::create_directories(engines / "step_x");  // Somebody else's.
  fs::create_directories(engines / "step_0");
  for (PolicyVersion version = 1; version <= 4; ++version) {
    REQUIRE(directories->Write(Publish(policy, version)).ok());
    if (version != 2) directories->Release(version);
  }
  CHECK(Names(engines) == std::vector<std::string>{"step_0", "step_2", "step_3",
                                                   "step_4", "step_x"});
  directories->Release(2);
  REQUIRE(directories->Write(Publish(policy, 5)).ok());
  CHECK(Names(engines) ==
        std::vector<std::string>{"step_0", "step_4", "step_5", "step_x"});
}

TEST_CASE("A directory with the same weights is left as it is", "[learner]") {
  const TemporaryDirectory directory;
  const auto directories = Directories(directory.path);
  const fs::path file =
      *directories->Write(Publish(Policy(true), 3)) / "model.safetensors";
  fs::remove(file);
  REQUIRE(directories->Write(Publish(Policy(true), 3)).ok());
  CHECK_FALSE(fs::exists(file));
  // Those of a former run with other weights are replaced.
  REQUIRE(directories->Write(Publish(Policy(true, 0.25F), 3)).ok());
  CHECK(fs::exists(file));
  // A run that begins again does not delete what it has just written.
  REQUIRE(directories->Write(Publish(Policy(true), 1)).ok());
  CHECK(Names(directory.path / "engines") ==
        std::vector<std::string>{"step_1", "step_3"});
}

TEST_CASE("What a killed learner left half-written goes", "[learner]") {
  const TemporaryDirectory directory;
  fs::create_directories(directory.path / "engines" / ".step_7");
  Directories(directory.path);
  CHECK(Names(directory.path / "engines").empty());
}

TEST_CASE("Weights that do not fit leave nothing behind", "[learner]") {
  const TemporaryDirectory directory;
  const auto directories = Directories(directory.path);
  const Published other = *weights::PublishedWeights::Create(
      3, "full", "", {{"x", torch::zeros({2})}});
  CHECK(absl::IsInvalidArgument(directories->Write(other).status()));
  CHECK(Names(directory.path / "engines").empty());
}

TEST_CASE("A place that is no directory is told at the start", "[learner]") {
  const TemporaryDirectory directory;
  std::ofstream(directory.path / "engines") << "a file";
  const absl::Status status =
      ModelDirectories::Create({.directory = directory.path / "engines"},
                               ToyTask::Model())
          .status();
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()), Contains("engines"));
}

}  // namespace
}  // namespace mpo::policy_learner
