// SPDX-License-Identifier: Apache-2.0
#include "cli/train_config.h"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "cli/preconditions.h"
#include "mpo/base/file.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

const fs::path kSource = MPO_SOURCE_DIR;

class Folder {
 public:
  Folder() {
    std::string name =
        (fs::temp_directory_path() / "mpo_train_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

TrainConfig Quickstart(const std::vector<std::string>& overrides = {}) {
  const auto train =
      LoadTrainConfig(kSource / "configs" / "quickstart.yaml", overrides);
  INFO(train.status());
  REQUIRE(train.ok());
  return *train;
}

}  // namespace

TEST_CASE("Every configuration that is shipped is valid", "[cli]") {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    const auto train = LoadTrainConfig(entry.path(), {});
    INFO(train.status());
    CHECK(train.ok());
    ++files;
  }
  CHECK(files >= 2);
}

TEST_CASE("LoadTrainConfig tells which addresses are fixed", "[cli]") {
  CHECK(Quickstart().fixed_addresses.empty());
  CHECK(Quickstart({"mesh.reward_server=127.0.0.1:9"}).fixed_addresses ==
        std::vector<std::string>{"reward_server"});
}

TEST_CASE("A run directory belongs to one configuration", "[cli]") {
  const Folder folder;
  const TrainConfig train = Quickstart();
  CHECK(CheckSameRun(folder.path(), train).ok());
  REQUIRE(WriteConfigs(folder.path(), train).ok());
  CHECK(*ReadFile(folder.path() / "config.yaml") == train.text);
  CHECK(CheckSameRun(folder.path(), train).ok());
  // Ports and directory do not make another run.
  CHECK(CheckSameRun(folder.path(), Quickstart({"run.dir=x", "mesh.actors=2"}))
            .ok());
  const absl::Status status = CheckSameRun(
      folder.path(),
      Quickstart({"run.seed=77", "mesh.actors=2", "learner.algorithm=ppo"}));
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(status.message()),
             Contains("run.seed: 1 -> 77; learner.algorithm: \"rloo\" -> "
                      "\"ppo\"; go on") &&
                 !Contains("actors") && Contains("--dir"));
}

TEST_CASE("FindProblems names everything that would stop the run", "[cli]") {
  const Folder folder;
  std::ofstream(folder.path() / "rubric.yaml") << "id: x\ncriteria: []\n";
  std::ofstream(folder.path() / "train.jsonl") << "{\n";
  const TrainConfig train = Quickstart(
      {"policy.model=" + (folder.path() / "model").string(),
       "reward.rubric=" + (folder.path() / "rubric.yaml").string(),
       "data.train=" + (folder.path() / "train.jsonl").string(),
       "data.heldout=/nowhere.jsonl", "reward.http.api_key_file=/nowhere.key"});
  const std::vector<std::string> problems = FindProblems(train.config);
  REQUIRE(problems.size() == 5);
  CHECK_THAT(problems[0], Contains("policy.model: no directory"));
  CHECK_THAT(problems[1], Contains("at least one criterion"));
  CHECK_THAT(problems[2], Contains("data.train") && Contains("train.jsonl"));
  CHECK_THAT(problems[3], Contains("data.heldout"));
  CHECK_THAT(problems[4], Contains("reward.http.api_key_file"));
}

}  // namespace mpo::cli
