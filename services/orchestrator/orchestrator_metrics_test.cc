// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/orchestrator_metrics.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "services/orchestrator/engine_fixture.h"

namespace mpo::orchestrator {

TEST_CASE("Proxy and gold are not a number before a step was committed",
          "[metrics]") {
  TestRun run;
  run.Open();
  CHECK(std::isnan(run.metrics.proxy.Value()));
  CHECK(std::isnan(run.metrics.gold.Value()));
  CHECK(run.metrics.last_commit.Value() == 0);
  CHECK(run.metrics.step.Value() == 0);
  CHECK(run.metrics.run_steps.Value() == 4);
}

TEST_CASE("A process started again shows the last committed step",
          "[metrics]") {
  TestRun run;
  run.Open();
  run.RunStep(1);
  const double committed =
      absl::ToDoubleSeconds(run.clock.Wall() - absl::UnixEpoch());
  CHECK(run.metrics.proxy.Value() == Approx(4));
  CHECK(run.metrics.gold.Value() == Approx(6.5));
  CHECK(run.metrics.last_commit.Value() == Approx(committed));
  // What a new process begins with.
  for (auto* gauge : {&run.metrics.proxy, &run.metrics.gold,
                      &run.metrics.last_commit, &run.metrics.step}) {
    gauge->Set(-1);
  }
  run.clock.Advance(absl::Hours(1));
  run.Open();
  CHECK(run.metrics.step.Value() == 1);
  CHECK(run.metrics.proxy.Value() == Approx(4));
  CHECK(run.metrics.gold.Value() == Approx(6.5));
  CHECK(run.metrics.last_commit.Value() == Approx(committed));
}

TEST_CASE("A step nobody could score leaves proxy not a number", "[metrics]") {
  TestRun run;
  run.options.policy.max_unscorable = 1;
  run.Open();
  run.RunStep(1);
  run.GenerateAll(/*scored=*/false);
  REQUIRE(run.Batch(2)->batch.has_value());
  REQUIRE(run.engine->CommitStep(TestRun::CommitOf(2)).ok());
  run.engine->Tick();
  CHECK(run.metrics.step.Value() == 2);
  CHECK(std::isnan(run.metrics.proxy.Value()));
}

TEST_CASE("A stopped run has fewer steps", "[metrics]") {
  TestRun run;
  run.Open();
  run.RunStep(1);
  REQUIRE(run.engine->StopRun().ok());
  run.RunStep(2);
  CHECK(run.metrics.run_steps.Value() == 2);
  CHECK(run.metrics.step.Value() == 2);
}

}  // namespace mpo::orchestrator
