// SPDX-License-Identifier: Apache-2.0
#include "cli/run_summary.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/exit_code.h"

namespace mpo::cli {
namespace {

using orchestrator::RefinementState;
using orchestrator::StepState;

RunSnapshot Snapshot(int steps) {
  RunSnapshot snapshot;
  snapshot.run.name = "essay";
  snapshot.run.seed = 3;
  snapshot.run.config_sha256 = "c0ffee";
  for (int step = 1; step <= steps; ++step) {
    orchestrator::StepRecord record;
    record.step = step;
    record.state = StepState::kCommitted;
    record.rubric_sha256 = step > steps / 2 ? "second" : "first";
    record.weights_sha256 = absl::StrCat("w", step);
    record.metrics = {{"proxy", step},
                      {"tokens", 100},
                      {"tokens_per_second", step % 2 == 0 ? 50 : 200}};
    snapshot.steps.push_back(record);
  }
  return snapshot;
}

}  // namespace

TEST_CASE("TrendOf takes the means of the first and the last tenth", "[cli]") {
  const Trend trend = TrendOf(Snapshot(20).steps, "proxy");
  CHECK(trend.first == 1.5);
  CHECK(trend.last == 19.5);
}

TEST_CASE("TrendOf uses at least one step and only committed ones", "[cli]") {
  RunSnapshot snapshot = Snapshot(3);
  snapshot.steps[2].state = StepState::kAssigned;
  const Trend trend = TrendOf(snapshot.steps, "proxy");
  CHECK(trend.first == 1);
  CHECK(trend.last == 2);
  CHECK_FALSE(TrendOf(snapshot.steps, "gold").first.has_value());
  CHECK_FALSE(TrendOf({}, "proxy").last.has_value());
}

TEST_CASE("Summarise counts rubrics, refinements, samples and restarts",
          "[cli]") {
  RunSnapshot snapshot = Snapshot(4);
  for (const RefinementState state :
       {RefinementState::kAccepted, RefinementState::kRejected,
        RefinementState::kUnchanged, RefinementState::kFailed,
        RefinementState::kOpen, RefinementState::kAccepted}) {
    snapshot.refinements.push_back({.state = state});
  }
  snapshot.evaluations = {
      {0, {{"heldout_gold", 4.5}}}, {2, {}}, {4, {{"heldout_gold", 5.0}}}};
  snapshot.samples = {.planned = 40, .committed = 32, .unscorable = 1};
  snapshot.supervision = {.seconds = 12, .restarts = {{"a", 2}, {"b", 1}}};
  const RunSummary summary = Summarise(snapshot);
  CHECK(summary.steps == 4);
  CHECK(summary.rubric_versions == 2);
  CHECK(summary.proposed == 3);
  CHECK(summary.accepted == 2);
  CHECK(summary.rejected == 1);
  CHECK(summary.restarts == 3);
  CHECK(summary.weights_sha256 == "w4");
  CHECK(summary.heldout_gold.first == 4.5);
  CHECK(summary.heldout_gold.last == 5.0);
  // 400 tokens in 0.5 + 2 + 0.5 + 2 seconds.
  CHECK(summary.tokens_per_second == Approx(80));

  const auto json = nlohmann::json::parse(ToJson(summary));
  CHECK(json.at("run") == "essay");
  CHECK(json.at("gold").at("first").is_null());
  CHECK(json.at("refinements").at("accepted") == 2);
  CHECK(json.at("samples").at("committed") == 32);
  CHECK(json.at("weights_sha256") == "w4");
  CHECK(json.at("seconds") == 12);
  CHECK(json.at("restarts") == 3);
  CHECK_THAT(ToText(summary), Catch::Contains("4.50 -> 5.00 (+0.50)"));
}

TEST_CASE("Time and restarts nobody watched are unknown, not 0", "[cli]") {
  const RunSummary summary = Summarise(Snapshot(4));
  const auto json = nlohmann::json::parse(ToJson(summary));
  CHECK(json.at("seconds").is_null());
  CHECK(json.at("restarts").is_null());
  CHECK_THAT(ToText(summary), Catch::Contains("4 steps, 80 generated"));
  CHECK_THAT(ToText(summary), !Catch::Contains("restarts"));
}

TEST_CASE("Summarise of a run without steps has no figures", "[cli]") {
  const RunSummary summary = Summarise({});
  CHECK(summary.steps == 0);
  CHECK(summary.weights_sha256.empty());
  CHECK(summary.tokens_per_second == 0);
}

TEST_CASE("ExitCodeOf tells bad input from failure", "[cli]") {
  CHECK(ExitCodeOf(absl::OkStatus()) == 0);
  CHECK(ExitCodeOf(absl::InvalidArgumentError("x")) == 2);
  CHECK(ExitCodeOf(absl::NotFoundError("x")) == 2);
  CHECK(ExitCodeOf(absl::ResourceExhaustedError("x")) == 2);
  CHECK(ExitCodeOf(absl::UnavailableError("x")) == 1);
  CHECK(ExitCodeOf(absl::DataLossError("x")) == 1);
}

}  // namespace mpo::cli
