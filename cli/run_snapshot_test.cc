// SPDX-License-Identifier: Apache-2.0
#include "cli/run_snapshot.h"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "cli/doctor_checks.h"
#include "cli/process_table.h"
#include "cli/report_page.h"
#include "mpo/base/file.h"
#include "mpo/rubric/rubric_yaml.h"
#include "services/orchestrator/ledger.h"
#include "services/orchestrator/plan.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using orchestrator::Ledger;
using orchestrator::MeasuredOutcome;

const absl::Time kNow = absl::FromUnixSeconds(1000);

// A run directory with a ledger; goes with the test.
class RunFolder {
 public:
  RunFolder() {
    std::string name = (fs::temp_directory_path() / "mpo_run_XXXXXX").string();
    path_ = mkdtemp(name.data());
    orchestrator::RunRecord run;
    run.name = "r";
    run.seed = 3;
    run.total_steps = 3;
    run.config_sha256 = "c1";
    run.data_sha256 = "d1";
    rubric_.id = "essay";
    Criterion flow;
    flow.id = "flow";
    flow.title = "Flow";
    flow.text = "How well does it flow?";
    rubric_.criteria = {flow};
    orchestrator::RubricRecord record;
    record.sha256 = rubric::Sha256Of(rubric_);
    record.yaml = rubric::ToYaml(rubric_);
    auto ledger = Ledger::Open(path_ / "ledger.sqlite", run, record, kNow);
    INFO(ledger.status());
    REQUIRE(ledger.ok());
    ledger_ = *std::move(ledger);
  }
  ~RunFolder() { fs::remove_all(path_); }

  // Plans, judges, assigns and commits one step of two prompts and two
  // replicas; the last sample is unscorable.
  void RunStep(int64_t step) {
    orchestrator::PlanOptions plan;
    plan.run = "r";
    plan.seed = 3;
    plan.total_steps = 3;
    plan.prompts_per_step = 2;
    plan.group_size = 2;
    plan.unit_size = 4;
    for (const char* id : {"a", "b", "c"}) {
      plan.training.emplace_back().id = id;
      plan.training.back().text = std::string("prompt ") + id;
    }
    orchestrator::PromptOrder order(3, 3, 2);
    const auto units = orchestrator::PlanTraining(plan, order, step);
    REQUIRE(ledger_->PlanStep(step, units, false, kNow).ok());
    const auto epoch = ledger_->GrantUnit(units[0].id, "m", kNow);
    REQUIRE(epoch.ok());
    std::vector<MeasuredOutcome> outcomes;
    for (const Sample& sample : units[0].samples) {
      MeasuredOutcome& one = outcomes.emplace_back();
      one.outcome.sample_key = sample.key;
      one.outcome.text = "response";
      one.outcome.verdict.rubric_sha256 = rubric::Sha256Of(rubric_);
      one.outcome.verdict.scored = outcomes.size() < 4;
      one.gold = 6;
    }
    REQUIRE(ledger_->RecordOutcomes(units[0].id, *epoch, outcomes, 1, 1).ok());
    REQUIRE(ledger_->AssignStep(step, kNow).ok());
    orchestrator::StepRecord record;
    record.step = step;
    record.weights_sha256 = std::string(64, 'a');
    record.metrics = {{"kl", 0.1}};
    REQUIRE(ledger_->CommitStep(record, "", kNow).ok());
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  Rubric rubric_;
  std::unique_ptr<Ledger> ledger_;
};

}  // namespace

TEST_CASE("ReadRun reads a run beside its writer", "[cli]") {
  RunFolder run;
  run.RunStep(1);
  run.RunStep(2);
  std::ofstream(run.path() / "config.yaml") << "task: essay\n";
  // Nobody watched over it, as in containers.
  CHECK_FALSE(ReadRun(run.path())->supervision.has_value());
  REQUIRE(WriteSupervision(run.path(), {.seconds = 5, .restarts = {{"a", 2}}})
              .ok());
  const auto snapshot = ReadRun(run.path());
  INFO(snapshot.status());
  REQUIRE(snapshot.ok());
  CHECK(snapshot->run.name == "r");
  CHECK(snapshot->steps.size() == 2);
  CHECK(snapshot->samples ==
        SampleCounts{.planned = 8, .committed = 8, .unscorable = 2});
  CHECK(snapshot->supervision ==
        SupervisionRecord{.seconds = 5, .restarts = {{"a", 2}}});
  CHECK(snapshot->config == "task: essay\n");
  CHECK(snapshot->rubrics.size() == 1);
}

TEST_CASE("ReadRun says what it expected where there is no run", "[cli]") {
  const auto snapshot = ReadRun("/nowhere");
  CHECK(absl::IsNotFound(snapshot.status()));
  CHECK_THAT(std::string(snapshot.status().message()),
             Contains("ledger.sqlite"));
}

TEST_CASE("PrepareReport pairs the first and the last step", "[cli]") {
  RunFolder run;
  run.RunStep(1);
  CHECK(PrepareReport(run.path())->pairs.empty());
  run.RunStep(2);
  const auto input = PrepareReport(run.path());
  REQUIRE(input.ok());
  CHECK(input->pairs.size() == 2);
  CHECK(input->after_label == "step 2");
  CHECK(input->rubrics.size() == 1);
  CHECK_THAT(ReportPage(*input), Contains("How well does it flow?"));
}

TEST_CASE("AuditRun proves a whole run and fails without a ledger", "[cli]") {
  RunFolder run;
  run.RunStep(1);
  const auto findings = AuditRun(run.path());
  for (const Finding& finding : findings) INFO(ToLine(finding));
  CHECK_FALSE(AnyFailed(findings));
  CHECK(AnyFailed(AuditRun("/nowhere")));
}

TEST_CASE("ReadSupervision starts at zero and rejects what it did not write",
          "[cli]") {
  RunFolder run;
  CHECK(*ReadSupervision(run.path()) == SupervisionRecord{});
  std::ofstream(run.path() / "supervision.json") << "{";
  CHECK(absl::IsDataLoss(ReadSupervision(run.path()).status()));
}

TEST_CASE("ReadProcesses gives back what was written", "[cli]") {
  RunFolder run;
  CHECK(absl::IsNotFound(ReadProcesses(run.path()).status()));
  REQUIRE(
      WriteProcesses(
          run.path(),
          {{"orchestrator",
            {.pid = 7,
             .addresses = {.grpc = "127.0.0.1:1", .metrics = "127.0.0.1:2"}}}})
          .ok());
  const auto table = ReadProcesses(run.path());
  REQUIRE(table.ok());
  CHECK(table->at("orchestrator").pid == 7);
  CHECK(table->at("orchestrator").addresses.grpc == "127.0.0.1:1");
  std::ofstream(run.path() / "processes.json") << "[1]";
  CHECK(absl::IsDataLoss(ReadProcesses(run.path()).status()));
}

}  // namespace mpo::cli
