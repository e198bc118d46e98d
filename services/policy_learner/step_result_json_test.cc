// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/step_result_json.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>

namespace mpo::policy_learner {
namespace {

TEST_CASE("A step's result is read as it was written", "[learner]") {
  StepResult result;
  result.metrics = {{"reward", 0.1}, {"kl", 1.0 / 3}};
  result.seconds = {{"forward", 2}};
  const auto read = ParseStepResult(StepResultJson(result), "step.json");
  REQUIRE(read.ok());
  CHECK(read->metrics == result.metrics);
  CHECK(read->seconds == result.seconds);

  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() /
      ("mpo_step_result_" + std::to_string(getpid()));
  std::filesystem::create_directories(directory);
  const absl::Status missing = ReadStepResult(directory).status();
  CHECK(absl::IsNotFound(missing));
  REQUIRE(WriteStepResult(result, directory).ok());
  const auto again = ReadStepResult(directory);
  REQUIRE(again.ok());
  CHECK(again->metrics == result.metrics);
  std::filesystem::remove_all(directory);
}

TEST_CASE("A figure that is not finite does not cost the checkpoint",
          "[learner]") {
  StepResult result;
  result.metrics = {{"kl", std::numeric_limits<double>::infinity()}};
  const auto read = ParseStepResult(StepResultJson(result), "step.json");
  REQUIRE(read.ok());
  CHECK(std::isnan(read->metrics.at("kl")));
}

TEST_CASE("A damaged step's result is named", "[learner]") {
  const auto refused = [](const std::string& text, const std::string& what) {
    const absl::Status status = ParseStepResult(text, "a/step.json").status();
    CHECK(absl::IsDataLoss(status));
    CHECK_THAT(std::string(status.message()),
               Catch::Contains("a/step.json") && Catch::Contains(what));
  };
  for (const char* text : {"", "{", "[]", "{}", R"({"metrics": 1})"})
    refused(text, "metrics");
  refused(R"({"metrics": {}})", "seconds");
  refused(R"({"metrics": {"kl": "x"}, "seconds": {}})", "'kl'");
}

}  // namespace
}  // namespace mpo::policy_learner
