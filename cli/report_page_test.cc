// SPDX-License-Identifier: Apache-2.0
#include "cli/report_page.h"

#include <catch2/catch.hpp>
#include <limits>

#include "cli/svg_chart.h"

namespace mpo::cli {
namespace {

Criterion MakeCriterion(const std::string& id, const std::string& text) {
  Criterion criterion;
  criterion.id = id;
  criterion.text = text;
  criterion.check =
      Check{.name = "connectives", .zero_at = 0, .saturate_at = 5};
  return criterion;
}

orchestrator::SampleRecord MakeSample(const std::string& text, double gold) {
  orchestrator::SampleRecord record;
  record.sample.prompt.id = "p";
  record.sample.prompt.messages = {{"user", "Write about <b>parks</b>."}};
  orchestrator::MeasuredOutcome outcome;
  outcome.outcome.text = text;
  outcome.outcome.verdict.scored = true;
  outcome.outcome.verdict.criteria = {
      {.id = "flow", .score = 3, .minimum = 0, .maximum = 5, .rationale = ""}};
  outcome.gold = gold;
  record.result = outcome;
  return record;
}

ReportInput Input() {
  ReportInput input;
  input.snapshot.run.name = "essay & more";
  input.snapshot.run.total_steps = 4;
  input.snapshot.run.initial_rubric = "r0";
  input.snapshot.run.active_rubric = "r1";
  input.snapshot.config = "task: essay  # <mine>\n";
  for (int step = 1; step <= 4; ++step) {
    orchestrator::StepRecord record;
    record.step = step;
    record.state = orchestrator::StepState::kCommitted;
    record.rubric_sha256 = step < 3 ? "r0" : "r1";
    record.rubric_version = step < 3 ? 0 : 1;
    record.metrics = {{"proxy", step + 1.0}, {"gold", 6.0 - step}};
    record.seconds = {{"forward", 1.5}, {"wait", 3.0}};
    input.snapshot.steps.push_back(record);
  }
  input.snapshot.rubrics = {{.sha256 = "r0",
                             .version = 0,
                             .parent = "",
                             .state = orchestrator::RubricState::kRetired,
                             .origin = "initial",
                             .reasons = {},
                             .first_step = 1,
                             .yaml = ""},
                            {.sha256 = "r1",
                             .version = 1,
                             .parent = "r0",
                             .state = orchestrator::RubricState::kActive,
                             .origin = "refinement",
                             .reasons = {},
                             .first_step = 3,
                             .yaml = ""}};
  orchestrator::RefinementRecord refinement;
  refinement.step = 2;
  refinement.state = orchestrator::RefinementState::kAccepted;
  refinement.base_rubric = "r0";
  refinement.result_rubric = "r1";
  refinement.changes = {{"add", "copying", "82 % of responses repeat it"}};
  input.snapshot.refinements = {refinement};
  input.rubrics["r0"].criteria = {MakeCriterion("flow", "How well it flows")};
  input.rubrics["r1"].criteria = {
      MakeCriterion("flow", "How well it reads"),
      MakeCriterion("copying", "How little is copied")};
  input.pairs = {{MakeSample("a good <essay>", 5), MakeSample("spam", 1)}};
  input.snapshot.supervision.emplace();
  input.summary = Summarise(input.snapshot);
  return input;
}

}  // namespace

TEST_CASE("ReportPage shows every section and loads nothing", "[cli]") {
  const std::string page = ReportPage(Input());
  for (const char* text :
       {"essay &amp; more", "Proxy and gold", "82 % of responses repeat it",
        "Version 1, after step 2", "judged from step 3", "a good &lt;essay&gt;",
        "gold 5.00", "flow 3/5", "task: essay  # &lt;mine&gt;", "forward",
        "no process had to be started again"}) {
    CHECK_THAT(page, Catch::Contains(text));
  }
  for (const char* text :
       {"<script", "http://", "https://", "<b>parks</b>", "nan", "inf\""}) {
    CHECK_THAT(page, !Catch::Contains(text));
  }
}

TEST_CASE("ReportPage does not claim to know restarts nobody watched",
          "[cli]") {
  ReportInput input = Input();
  CHECK_THAT(ReportPage(input), Catch::Contains("processes restarted"));
  input.snapshot.supervision.reset();
  input.summary = Summarise(input.snapshot);
  const std::string page = ReportPage(input);
  CHECK_THAT(page, Catch::Contains("mpo train did not start the processes"));
  CHECK_THAT(page, !Catch::Contains("no process had to be started again"));
  CHECK_THAT(page, !Catch::Contains("processes restarted"));
  CHECK_THAT(page, !Catch::Contains("wall time"));
}

TEST_CASE("ReportPage of a run that has just begun says what is missing",
          "[cli]") {
  ReportInput input;
  const std::string page = ReportPage(input);
  CHECK_THAT(page, Catch::Contains("not measured"));
  CHECK_THAT(page, Catch::Contains("too young"));
}

TEST_CASE("RubricDiff marks added, changed and dropped criteria", "[cli]") {
  ReportInput input = Input();
  const std::string forward =
      RubricDiff(input.rubrics["r0"], input.rubrics["r1"]);
  CHECK_THAT(forward, Catch::Contains("<ins>How little is copied</ins>"));
  CHECK_THAT(forward, Catch::Contains("<del>flows</del> <ins>reads</ins>"));
  const std::string backward =
      RubricDiff(input.rubrics["r1"], input.rubrics["r0"]);
  CHECK_THAT(backward, Catch::Contains("<del>How little is copied</del>"));
  CHECK(RubricDiff(input.rubrics["r0"], input.rubrics["r0"]).empty());
}

TEST_CASE("LineChart leaves out what is not finite", "[cli]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string svg = LineChart(
      {{.name = "a", .colour = "--gold", .points = {{1, 2}, {2, nan}, {3, 4}}}},
      {{.x = 2, .label = "v1"}, {.x = 99, .label = "outside"}}, {});
  CHECK_THAT(svg, !Catch::Contains("nan"));
  CHECK_THAT(svg, Catch::Contains(">v1<"));
  CHECK_THAT(svg, !Catch::Contains("outside"));
  CHECK_THAT(LineChart({}, {}, {}), Catch::Contains("not measured"));
}

TEST_CASE("LineChart draws a single point and a flat line", "[cli]") {
  for (const auto& points : std::vector<std::vector<std::pair<double, double>>>{
           {{1, 0}}, {{1, 3}, {2, 3}}, {{5, -2}}}) {
    const std::string svg = LineChart(
        {{.name = "a", .colour = "--gold", .points = points}}, {}, {});
    CHECK_THAT(svg, Catch::Contains("class=\"line\""));
    CHECK_THAT(svg, !Catch::Contains("nan"));
  }
}

TEST_CASE("StackedBars puts the parts of a step on each other", "[cli]") {
  const std::string svg = StackedBars(
      {{.name = "a", .colour = "--gold", .points = {{1, 2}, {2, 0}}},
       {.name = "b", .colour = "--held", .points = {{1, 3}}}},
      {});
  CHECK_THAT(svg, Catch::Contains("a, step 1: 2.00 s"));
  CHECK_THAT(svg, Catch::Contains("b, step 1: 3.00 s"));
  CHECK_THAT(svg, !Catch::Contains("step 2:"));
}

TEST_CASE("RoundTicks spans the range with round steps", "[cli]") {
  CHECK(RoundTicks(0, 10, 6) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(RoundTicks(3, 3, 6).size() >= 2);
  const auto ticks = RoundTicks(-0.03, 0.11, 5);
  CHECK(ticks.front() <= -0.03);
  CHECK(ticks.back() >= 0.11);
}

}  // namespace mpo::cli
