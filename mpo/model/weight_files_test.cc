// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/weight_files.h"

#include <torch/torch.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <set>

#include "mpo/base/file.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

namespace fs = std::filesystem;

fs::path FreshDirectory() {
  const fs::path directory = fs::temp_directory_path() /
                             ("weight_files_test_" + std::to_string(getpid()));
  fs::remove_all(directory);
  fs::create_directories(directory);
  return directory;
}

// 40, 24, 200 and 8 bytes as float32.
std::vector<tensor::NamedTensor> Sample() {
  return {{"a", at::arange(10, at::kFloat)},
          {"b", at::ones({2, 3})},
          {"c", at::full({50}, 0.25)},
          {"d", at::zeros({2})}};
}

std::set<std::string> Names(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.insert(entry.path().filename().string());
  return names;
}

void CheckHolds(const fs::path& directory, at::ScalarType dtype) {
  const auto files = OpenWeightFiles(directory);
  INFO(files.status().ToString());
  REQUIRE(files.ok());
  REQUIRE(files->size() == Sample().size());
  for (const auto& named : Sample()) {
    const auto value = files->at(named.name)->Read(named.name);
    REQUIRE(value.ok());
    CHECK(at::equal(*value, named.tensor.to(dtype)));
  }
  CHECK(*StoredDtype(directory) == dtype);
}

TEST_CASE("weights that fit are one file", "[model]") {
  const fs::path directory = FreshDirectory();
  REQUIRE(WriteWeightFiles(directory, Sample(), {.shard_bytes = 272}).ok());
  CHECK(Names(directory) == std::set<std::string>{"model.safetensors"});
  CheckHolds(directory, at::kFloat);
  REQUIRE(WriteWeightFiles(directory, Sample()).ok());
  CHECK(Names(directory) == std::set<std::string>{"model.safetensors"});
  fs::remove_all(directory);
}

TEST_CASE("weights beyond a shard are split and the index finds them",
          "[model]") {
  const fs::path directory = FreshDirectory();
  // "c" is larger than a shard: it has one of its own.
  REQUIRE(WriteWeightFiles(directory, Sample(), {.shard_bytes = 64}).ok());
  CHECK(Names(directory) ==
        std::set<std::string>{"model-00001-of-00003.safetensors",
                              "model-00002-of-00003.safetensors",
                              "model-00003-of-00003.safetensors",
                              "model.safetensors.index.json"});
  const auto index = nlohmann::json::parse(
      *ReadFile(directory / "model.safetensors.index.json"));
  CHECK(index["metadata"]["total_size"] == 272);
  CHECK(index["weight_map"]["b"] == "model-00001-of-00003.safetensors");
  CHECK(index["weight_map"]["c"] == "model-00002-of-00003.safetensors");
  CheckHolds(directory, at::kFloat);
  fs::remove_all(directory);
}

TEST_CASE("shards are counted in the dtype that is written", "[model]") {
  const fs::path directory = FreshDirectory();
  REQUIRE(WriteWeightFiles(directory, Sample(),
                           {.dtype = at::kHalf, .shard_bytes = 136})
              .ok());
  CHECK(Names(directory) == std::set<std::string>{"model.safetensors"});
  CheckHolds(directory, at::kHalf);
  fs::remove_all(directory);
}

TEST_CASE("a directory without weights has no dtype", "[model]") {
  const fs::path directory = FreshDirectory();
  CHECK(absl::IsNotFound(StoredDtype(directory).status()));
  REQUIRE(WriteWeightFiles(directory, {}).ok());
  CHECK(absl::IsInvalidArgument(StoredDtype(directory).status()));
  fs::remove_all(directory);
}

}  // namespace
}  // namespace mpo::model
