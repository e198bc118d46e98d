// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <catch2/catch.hpp>

namespace mpo::cli {
namespace {

orchestrator::StepRecord Step(int64_t step) {
  orchestrator::StepRecord record;
  record.step = step;
  record.state = orchestrator::StepState::kCommitted;
  record.rubric_version = 1;
  record.metrics = {{"proxy", 5.208},
                    {"gold", 4.983},
                    {"kl", 0.0123},
                    {"tokens_per_second", 611.7}};
  return record;
}

}  // namespace

TEST_CASE("StepLine shows the figures of a step on one line", "[cli]") {
  CHECK(StepLine(Step(3), 32, absl::Seconds(340)) ==
        "step  3/32  proxy 5.21  gold 4.98  kl 0.012  612 tok/s  rubric 1  "
        "left 5m40s");
}

TEST_CASE("StepLine leaves out what was not measured", "[cli]") {
  orchestrator::StepRecord step = Step(1);
  step.metrics = {{"unscorable", 2}};
  CHECK(StepLine(step, 8, std::nullopt) == "step 1/8  rubric 1  unscorable 2");
}

TEST_CASE("BarLine fills with the steps and fits the terminal", "[cli]") {
  const orchestrator::StepRecord last = Step(16);
  BarState state{.step = 16,
                 .total = 32,
                 .samples_done = 8,
                 .samples_planned = 32,
                 .phase = "generating",
                 .last = &last,
                 .left = absl::Seconds(61)};
  const std::string wide = BarLine(state, 160);
  CHECK_THAT(wide, Catch::StartsWith("[###############...............] 16/32"));
  CHECK_THAT(wide, Catch::Contains("left 1m01s  generating 8/32"));
  CHECK(BarLine(state, 40).size() == 40);
  CHECK(BarLine({}, 80) == "[..............................] 0/0");
}

TEST_CASE("RemainingTime follows the pace of the last steps", "[cli]") {
  RemainingTime remaining;
  const absl::Time start = absl::UnixEpoch();
  CHECK_FALSE(remaining.Estimate(10).has_value());
  remaining.OnStep(1, start);
  CHECK_FALSE(remaining.Estimate(10).has_value());
  // Slow first steps leave the window.
  for (int step = 2; step <= 12; ++step) {
    remaining.OnStep(step,
                     start + absl::Seconds(1000) + absl::Seconds(10) * step);
  }
  CHECK(remaining.Estimate(20) == absl::Seconds(80));
  CHECK(remaining.Estimate(5) == absl::ZeroDuration());
}

TEST_CASE("ShortDuration uses the two largest units", "[cli]") {
  CHECK(ShortDuration(absl::Seconds(12.4)) == "12s");
  CHECK(ShortDuration(absl::Seconds(340)) == "5m40s");
  CHECK(ShortDuration(absl::Seconds(3720)) == "1h02m");
}

}  // namespace mpo::cli
