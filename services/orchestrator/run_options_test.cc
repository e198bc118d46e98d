// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/run_options.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace mpo::orchestrator {
namespace {

std::string PromptFile(const char* name, int prompts) {
  const auto path = std::filesystem::temp_directory_path() /
                    absl::StrCat("mpo_run_options_", getpid(), "_", name);
  std::ofstream file(path);
  for (int i = 0; i < prompts; ++i) {
    file << absl::StrCat(R"({"id":")", name, i,
                         R"(","prompt":"2+3?","reference":"5"})", "\n");
  }
  return path.string();
}

config::v1::RunConfig Config() {
  config::v1::RunConfig config;
  config.set_task("math");
  config.mutable_run()->set_name("r");
  config.mutable_run()->set_steps(3);
  config.mutable_run()->set_dir("/nowhere");
  config.mutable_data()->set_train(PromptFile("train", 4));
  config.mutable_data()->set_heldout(PromptFile("held", 2));
  config.mutable_generation()->set_prompts_per_step(2);
  config.mutable_generation()->set_group_size(2);
  config.mutable_generation()->set_unit_size(4);
  config.mutable_generation()->set_max_staleness(1);
  config.mutable_meta()->set_every(5);
  config.mutable_meta()->set_publish("barrier");
  config.mutable_mesh()->set_work_lease(2);
  config.mutable_mesh()->set_heartbeat(1);
  return config;
}

}  // namespace

TEST_CASE("EngineOptionsFrom reads configuration and prompts", "[options]") {
  const auto options = EngineOptionsFrom(Config(), "digest");
  INFO(options.status());
  REQUIRE(options.ok());
  CHECK(options->plan.training.size() == 4);
  CHECK(options->plan.heldout.size() == 2);
  CHECK(options->policy.max_staleness == 1);
  CHECK(options->policy.barrier);
  CHECK(options->policy.meta_every == 5);
  CHECK(options->lease == absl::Seconds(2));
  CHECK(options->member_ttl == absl::Seconds(3));
  CHECK(options->config_sha256 == "digest");
}

TEST_CASE("EngineOptionsFrom refuses what cannot be planned", "[options]") {
  config::v1::RunConfig config = Config();
  config.mutable_generation()->set_prompts_per_step(5);
  CHECK(absl::IsInvalidArgument(EngineOptionsFrom(config, "").status()));
  config = Config();
  config.mutable_data()->set_train("/does/not/exist");
  CHECK(absl::IsNotFound(EngineOptionsFrom(config, "").status()));
}

TEST_CASE("RunRecordFrom notices other prompts", "[options]") {
  auto options = EngineOptionsFrom(Config(), "digest");
  REQUIRE(options.ok());
  const RunRecord run = RunRecordFrom(*options);
  CHECK(run.data_sha256.size() == 64);
  options->plan.training[0].reference = std::string("6");
  CHECK(RunRecordFrom(*options).data_sha256 != run.data_sha256);
}

}  // namespace mpo::orchestrator
