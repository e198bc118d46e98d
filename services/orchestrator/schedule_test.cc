// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/schedule.h"

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"

namespace mpo::orchestrator {
namespace {

Prompt PromptOf(const std::string& id) {
  Prompt prompt;
  prompt.id = id;
  return prompt;
}

SampleRecord Scored(int64_t step, double raw, int64_t tokens) {
  SampleRecord record;
  record.sample.key = absl::StrCat("k", step, "-", raw);
  record.sample.step = step;
  MeasuredOutcome result;
  result.outcome.response_tokens = tokens;
  result.outcome.base = BaseStatistics{.mean_logprob = -2};
  result.outcome.verdict.scored = true;
  result.outcome.verdict.rubric_sha256 = "initial";
  result.outcome.verdict.raw = raw;
  result.outcome.verdict.maximum = 20;
  result.outcome.verdict.reward = raw / 20;
  result.proxy = ProxyOf(result.outcome, "initial");
  result.gold = 7;
  record.result = result;
  return record;
}

SampleRecord Unscorable(int64_t step) {
  SampleRecord record = Scored(step, 20, 2);
  record.result->outcome.verdict = {};
  record.result->proxy.reset();
  record.result->gold.reset();
  return record;
}

RunRecord RunOf(int64_t last) {
  RunRecord run;
  run.total_steps = run.last_step = last;
  return run;
}

PlanOptions EvaluatedEvery(int every) {
  PlanOptions plan;
  plan.evaluation_every = every;
  plan.heldout.push_back(PromptOf("h"));
  return plan;
}

}  // namespace

TEST_CASE("StepToPlan waits for the weights a step may be generated with",
          "[schedule]") {
  Policy policy;
  const RunRecord run = RunOf(5);
  CHECK(StepToPlan(policy, run, {}) == 1);
  CHECK_FALSE(StepToPlan(policy, run, {.planned_step = 1}));
  CHECK(StepToPlan(policy, run, {.planned_step = 1, .committed_step = 1}) == 2);
  policy.max_staleness = 2;
  CHECK(StepToPlan(policy, run, {.planned_step = 2}) == 3);
  CHECK_FALSE(StepToPlan(policy, run, {.planned_step = 3}));
  CHECK_FALSE(
      StepToPlan(policy, run, {.planned_step = 5, .committed_step = 5}));
}

TEST_CASE("StepToPlan holds while paused, stopped or behind the barrier",
          "[schedule]") {
  Policy policy;
  RunRecord run = RunOf(9);
  const Progress reviewed = {
      .planned_step = 4, .committed_step = 4, .open_refinement = 4};
  CHECK(StepToPlan(policy, run, reviewed) == 5);
  policy.barrier = true;
  CHECK_FALSE(StepToPlan(policy, run, reviewed));
  CHECK(PhaseOf(policy, {}, run, reviewed) == Phase::kRefining);
  run.paused = true;
  CHECK_FALSE(StepToPlan({}, run, reviewed));
  CHECK(PhaseOf(policy, {}, run, reviewed) == Phase::kPaused);
  run.paused = false;
  run.stopped = true;
  CHECK_FALSE(StepToPlan({}, run, reviewed));
}

TEST_CASE("A run is finished when its evaluations are too", "[schedule]") {
  const RunRecord run = RunOf(5);
  const PlanOptions plan = EvaluatedEvery(4);
  CHECK(EvaluationsToPlan(plan, run, {}) == std::vector<int64_t>{0});
  Progress done = {.planned_step = 5,
                   .assigned_step = 5,
                   .committed_step = 5,
                   .evaluated_step = 0};
  CHECK(EvaluationsToPlan(plan, run, done) == std::vector<int64_t>{4, 5});
  CHECK_FALSE(IsFinished(plan, run, done));
  done.evaluated_step = 5;
  done.open_evaluations = 1;
  CHECK_FALSE(IsFinished(plan, run, done));
  done.open_evaluations = 0;
  CHECK(IsFinished(plan, run, done));
  done.open_refinement = 4;
  CHECK_FALSE(IsFinished(plan, run, done));
  CHECK(PhaseOf({}, {}, RunOf(5), {.assigned_step = 1}) == Phase::kTraining);
}

TEST_CASE("RefinementDue is every k-th step but the last", "[schedule]") {
  const Policy policy = {.meta_every = 4};
  const RunRecord run = RunOf(8);
  CHECK(RefinementDue(policy, run, 4, {}));
  CHECK_FALSE(RefinementDue(policy, run, 5, {}));
  CHECK_FALSE(RefinementDue(policy, run, 8, {}));
  CHECK_FALSE(RefinementDue(policy, run, 4, {.open_refinement = 2}));
  CHECK_FALSE(RefinementDue({}, run, 4, {}));
}

TEST_CASE("A stopped run ends with the steps in flight", "[schedule]") {
  RunRecord run = RunOf(20);
  const Progress progress = {
      .planned_step = 7, .assigned_step = 5, .committed_step = 4};
  CHECK(LastStepWhenStopped(run, progress) == 7);
  run.paused = true;
  CHECK(LastStepWhenStopped(run, progress) == 5);
}

TEST_CASE("StepMeans takes nothing from unscorable samples", "[schedule]") {
  const std::vector<SampleRecord> samples = {Scored(1, 10, 30), Scored(1, 4, 8),
                                             Unscorable(1)};
  const auto means = StepMeans(samples, {{.generation_seconds = 4}});
  CHECK(means.at("reward") == Approx(0.35));
  CHECK(means.at("proxy") == Approx(3.5));
  CHECK(means.at("gold") == Approx(7));
  CHECK(means.at("unscorable") == 1);
  CHECK(means.at("tokens") == 40);
  CHECK(means.at("tokens_per_second") == Approx(10));
  CHECK(UnscorableShare(samples) == Approx(1.0 / 3));
  const auto none = StepMeans({Unscorable(1)}, {});
  CHECK(none.count("reward") == 0);
  CHECK(none.count("proxy") == 0);
  CHECK(none.count("gold") == 0);
  CHECK(EvaluationMeans(samples).at("heldout_proxy") == Approx(3.5));
}

TEST_CASE("ProxyOf reads the initial rubric only", "[schedule]") {
  Outcome outcome = Scored(1, 10, 1).result->outcome;
  CHECK(ProxyOf(outcome, "initial") == Approx(5));
  CHECK_FALSE(ProxyOf(outcome, "other"));
  outcome.monitor = outcome.verdict;
  outcome.monitor->rubric_sha256 = "other";
  outcome.monitor->raw = 5;
  CHECK(ProxyOf(outcome, "other") == Approx(2.5));
}

TEST_CASE("Evidence is the newest scored samples in plan order", "[schedule]") {
  const EvidenceSteps steps = EvidenceStepsOf(8, 64, 32);
  CHECK(steps.recent_first == 7);
  CHECK(steps.recent_last == 8);
  CHECK(steps.baseline_last == 2);
  CHECK(EvidenceStepsOf(4, 8, 32).recent_first == 4);
  CHECK(EvidenceStepsOf(1, 640, 32).recent_first == 1);
  const std::vector<SampleRecord> samples = {Scored(1, 1, 1), Unscorable(1),
                                             Scored(1, 2, 1), Scored(1, 3, 1)};
  const auto newest = ToEvidence(samples, 2, /*newest=*/true);
  REQUIRE(newest.size() == 2);
  CHECK(newest[0].verdict.raw == 2);
  CHECK(newest[1].verdict.raw == 3);
  CHECK(ToEvidence(samples, 2, /*newest=*/false)[0].verdict.raw == 1);
}

TEST_CASE("Evidence leaves out what was never measured under the base",
          "[schedule]") {
  std::vector<SampleRecord> samples = {Scored(1, 1, 1), Scored(1, 2, 1)};
  samples[0].result->outcome.base.reset();
  const auto evidence = ToEvidence(samples, 2, /*newest=*/true);
  REQUIRE(evidence.size() == 1);
  CHECK(evidence[0].verdict.raw == 2);
  CHECK(evidence[0].base_mean_logprob == -2);
}

TEST_CASE("RetryPause doubles up to its limit", "[schedule]") {
  CHECK(RetryPause(absl::Seconds(1), 0) == absl::ZeroDuration());
  CHECK(RetryPause(absl::Seconds(1), 3) == absl::Seconds(4));
  CHECK(RetryPause(absl::Seconds(1), 60) == absl::Seconds(30));
}

}  // namespace mpo::orchestrator
