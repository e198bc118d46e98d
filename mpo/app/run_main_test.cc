// SPDX-License-Identifier: Apache-2.0
#include "mpo/app/run_main.h"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <vector>

namespace mpo::app {
namespace {

// A configuration file that goes with the test.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& yaml) {
    std::string name =
        (std::filesystem::temp_directory_path() / "mpo_app_XXXXXX").string();
    directory_ = mkdtemp(name.data());
    std::ofstream(path()) << yaml;
  }
  ~ConfigFile() { std::filesystem::remove_all(directory_); }
  std::string path() const { return (directory_ / "run.yaml").string(); }

 private:
  std::filesystem::path directory_;
};

constexpr char kGood[] =
    "run: {name: r, dir: runs/r, steps: 4}\ntask: essay\n"
    "data: {train: t.jsonl}\npolicy: {model: m}\nreward: {rubric: r.yaml}\n";

int Run(std::vector<std::string> arguments, ServiceOptions* seen,
        const absl::Status& result = absl::OkStatus()) {
  arguments.insert(arguments.begin(), "service");
  std::vector<char*> argv;
  for (std::string& one : arguments) argv.push_back(one.data());
  return RunMain(static_cast<int>(argv.size()), argv.data(), "reward_server",
                 [&](const ServiceOptions& options) {
                   *seen = options;
                   return result;
                 });
}

}  // namespace

TEST_CASE("RunMain hands the configuration and the flags over", "[app]") {
  const ConfigFile file(kGood);
  ServiceOptions seen;
  CHECK(Run({"--config", file.path(), "--name", "reward-1", "--listen",
             "127.0.0.1:0", "--metrics-listen", "127.0.0.1:1", "--set",
             "run.seed=5"},
            &seen) == 0);
  CHECK(seen.name == "reward-1");
  CHECK(seen.listen == "127.0.0.1:0");
  CHECK(seen.metrics_listen == "127.0.0.1:1");
  CHECK(seen.config.run().seed() == 5);
  CHECK(seen.config_sha256.size() == 64);
  CHECK(Run({"--config", file.path(), "--listen", "127.0.0.1:0"}, &seen) == 0);
  CHECK(seen.name == "reward_server");
}

TEST_CASE("RunMain's exit code tells bad input from failure", "[app]") {
  const ConfigFile file(kGood);
  ServiceOptions seen;
  const std::vector<std::string> good = {"--config", file.path(), "--listen",
                                         "127.0.0.1:0"};
  CHECK(Run(good, &seen, absl::UnavailableError("taken")) == 1);
  CHECK(Run(good, &seen, absl::InvalidArgumentError("rubric")) == 2);
  CHECK(Run(good, &seen, absl::FailedPreconditionError("other run")) == 2);
  CHECK(Run({}, &seen) == 2);
  CHECK(Run({"--config", "/nowhere.yaml", "--listen", "x:1"}, &seen) == 2);
  CHECK(Run({"--help"}, &seen) == 0);
  const ConfigFile bad("task: poem\n");
  CHECK(Run({"--config", bad.path(), "--listen", "127.0.0.1:0"}, &seen) == 2);
}

}  // namespace mpo::app
