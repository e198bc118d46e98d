// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/ledger.h"

#include <unistd.h>

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "mpo/base/digest.h"
#include "services/orchestrator/ledger_audit.h"
#include "services/orchestrator/plan.h"
#include "services/orchestrator/record_json.h"

namespace mpo::orchestrator {
namespace {

Prompt PromptOf(const std::string& id) {
  Prompt prompt;
  prompt.id = id;
  return prompt;
}

namespace fs = std::filesystem;

const absl::Time kNow = absl::FromUnixSeconds(1000);
const std::string kWeights(64, 'a');

fs::path FreshFile() {
  const fs::path path =
      fs::temp_directory_path() / absl::StrCat("mpo_ledger_", getpid());
  fs::remove_all(path);
  fs::create_directories(path);
  return path / "ledger.sqlite";
}

RunRecord RunOf() {
  RunRecord run;
  run.name = "r";
  run.seed = 3;
  run.total_steps = 4;
  run.config_sha256 = "c1";
  run.data_sha256 = "d1";
  return run;
}

RubricRecord RubricOf(const std::string& yaml) {
  RubricRecord rubric;
  rubric.sha256 = Sha256Hex(yaml);
  rubric.yaml = yaml;
  return rubric;
}

std::unique_ptr<Ledger> Opened(const fs::path& path) {
  auto ledger = Ledger::Open(path, RunOf(), RubricOf("v0"), kNow);
  INFO(ledger.status());
  REQUIRE(ledger.ok());
  return *std::move(ledger);
}

PlanOptions Plan() {
  PlanOptions plan;
  plan.run = "r";
  plan.seed = 3;
  plan.total_steps = 4;
  plan.prompts_per_step = 2;
  plan.group_size = 2;
  plan.unit_size = 2;
  for (const char* id : {"a", "b", "c"}) plan.training.push_back(PromptOf(id));
  plan.heldout.push_back(PromptOf("h"));
  return plan;
}

std::vector<WorkUnit> UnitsOf(int64_t step) {
  const PlanOptions plan = Plan();
  PromptOrder order(plan.seed, 3, 2);
  return PlanTraining(plan, order, step);
}

MeasuredOutcome OutcomeOf(const std::string& key, const std::string& rubric) {
  MeasuredOutcome measured;
  measured.outcome.sample_key = key;
  measured.outcome.text = "t";
  measured.outcome.response_tokens = 3;
  measured.outcome.finish_reason = FinishReason::kStop;
  measured.outcome.verdict.scored = true;
  measured.outcome.verdict.rubric_sha256 = rubric;
  measured.outcome.verdict.raw = 0.1;
  measured.outcome.verdict.maximum = 5;
  measured.outcome.verdict.criteria = {
      {.id = "x", .score = 0.1, .maximum = 5, .rationale = "\"q\"\n"}};
  measured.outcome.base = BaseStatistics{-1.5, 2.25, 0.1};
  measured.gold = 6.5;
  return measured;
}

void CompleteUnit(Ledger& ledger, const WorkUnit& unit) {
  auto epoch = ledger.GrantUnit(unit.id, "m", kNow);
  REQUIRE(epoch.ok());
  std::vector<MeasuredOutcome> outcomes;
  auto leased = ledger.ReadUnit(unit.id);
  REQUIRE(leased.ok());
  for (const Sample& sample : leased->samples) {
    outcomes.push_back(OutcomeOf(sample.key, leased->rubric_sha256));
  }
  auto recorded = ledger.RecordOutcomes(unit.id, *epoch, outcomes, 1, 2);
  REQUIRE(recorded.ok());
  CHECK(recorded->recorded == 2);
}

void RunStep(Ledger& ledger, int64_t step, const std::string& refinement = "") {
  REQUIRE(ledger.PlanStep(step, UnitsOf(step), true, kNow).ok());
  for (const WorkUnit& unit : UnitsOf(step)) CompleteUnit(ledger, unit);
  REQUIRE(ledger.AssignStep(step, kNow).ok());
  StepRecord record;
  record.step = step;
  record.weights_sha256 = kWeights;
  record.metrics = {{"kl", 0.1}};
  REQUIRE(ledger.CommitStep(record, refinement, kNow).ok());
}

AuditReport Audited(const fs::path& path) {
  auto report = AuditLedger(path, [](const std::string& yaml) {
    return absl::StatusOr<std::string>(Sha256Hex(yaml));
  });
  INFO(report.status());
  REQUIRE(report.ok());
  return *std::move(report);
}

}  // namespace

TEST_CASE("Ledger refuses the ledger of another configuration", "[ledger]") {
  const fs::path path = FreshFile();
  Opened(path);
  RunRecord other = RunOf();
  other.config_sha256 = "c2";
  const absl::Status status =
      Ledger::Open(path, other, RubricOf("v0"), kNow).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(std::string(status.message()).find("expected c2, found c1") !=
        std::string::npos);
  other = RunOf();
  other.data_sha256 = "d2";
  CHECK(absl::IsFailedPrecondition(
      Ledger::Open(path, other, RubricOf("v0"), kNow).status()));
  CHECK(absl::IsFailedPrecondition(
      Ledger::Open(path, RunOf(), RubricOf("v9"), kNow).status()));
  CHECK(
      absl::IsNotFound(Ledger::OpenReadOnly(path.string() + ".none").status()));
  CHECK(Opened(path)->Run()->starts == 2);
}

TEST_CASE("Ledger reads back what it planned and recorded", "[ledger]") {
  auto ledger = Opened(FreshFile());
  REQUIRE(ledger->PlanStep(1, UnitsOf(1), true, kNow).ok());
  REQUIRE(ledger->PlanStep(1, UnitsOf(1), true, kNow).ok());
  auto open = ledger->OpenUnits();
  REQUIRE(open.ok());
  REQUIRE(open->size() == 2);
  WorkUnit expected = UnitsOf(1)[0];
  auto unit = ledger->ReadUnit("train/1/0");
  REQUIRE(unit.ok());
  CHECK(unit->rubric_sha256 == RubricOf("v0").sha256);
  CHECK(unit->monitor_rubric_sha256.empty());
  CHECK(unit->samples == expected.samples);
  CompleteUnit(*ledger, expected);
  auto samples = ledger->Samples(WorkKind::kTraining, 1);
  REQUIRE(samples.ok());
  REQUIRE(samples->size() == 4);
  REQUIRE((*samples)[0].result.has_value());
  CHECK((*samples)[0].result->outcome ==
        OutcomeOf(expected.samples[0].key, RubricOf("v0").sha256).outcome);
  CHECK((*samples)[0].result->gold == 6.5);
  CHECK_FALSE((*samples)[2].result.has_value());
  CHECK(absl::IsFailedPrecondition(ledger->AssignStep(1, kNow).status()));
  CHECK(absl::IsNotFound(ledger->AssignStep(2, kNow).status()));
  CHECK(absl::IsNotFound(ledger->ReadUnit("train/9/0").status()));
  CHECK(absl::IsNotFound(ledger->FindUnit("train/9/0").status()));
}

TEST_CASE("Lease epochs grow across restarts and fence old holders",
          "[ledger]") {
  const fs::path path = FreshFile();
  auto ledger = Opened(path);
  REQUIRE(ledger->PlanStep(1, UnitsOf(1), true, kNow).ok());
  CHECK(*ledger->GrantUnit("train/1/0", "m1", kNow) == 1);
  CHECK(absl::IsNotFound(ledger->GrantUnit("train/1/0", "m2", kNow).status()));
  CHECK(*ledger->ReleaseUnit("train/1/0", 1, "expired", true, kNow) == 1);
  CHECK(*ledger->ReleaseUnit("train/1/0", 1, "again", true, kNow) == 1);
  ledger = Opened(path);
  CHECK(*ledger->GrantUnit("train/1/0", "m2", kNow) == 2);
  CHECK(*ledger->ReleaseUnit("train/1/0", 1, "late", true, kNow) == 1);
  CHECK(ledger->FindUnit("train/1/0")->state == UnitState::kLeased);
  CHECK(ledger->GrantedTo("train/1/0", 1)->value() == "m1");
  CHECK_FALSE(ledger->GrantedTo("train/1/0", 3)->has_value());
  CHECK_FALSE(ledger->GrantedTo("train/1/1", 1)->has_value());
  REQUIRE(ledger->SetPaused("x", kNow).ok());
  REQUIRE(ledger->Resume({}, kNow).ok());
  CHECK(ledger->FindUnit("train/1/0")->failures == 0);
}

TEST_CASE("A result counts once, whoever brings it", "[ledger]") {
  auto ledger = Opened(FreshFile());
  REQUIRE(ledger->PlanStep(1, UnitsOf(1), true, kNow).ok());
  const WorkUnit unit = UnitsOf(1)[0];
  REQUIRE(ledger->GrantUnit(unit.id, "m1", kNow).ok());
  REQUIRE(ledger->ReleaseUnit(unit.id, 1, "expired", true, kNow).ok());
  REQUIRE(ledger->GrantUnit(unit.id, "m2", kNow).ok());
  std::vector<MeasuredOutcome> outcomes;
  for (const Sample& sample : unit.samples) {
    outcomes.push_back(OutcomeOf(sample.key, RubricOf("v0").sha256));
  }
  auto late = ledger->RecordOutcomes(unit.id, 1, outcomes, 1, 1);
  CHECK(late->recorded == 2);
  outcomes[0].outcome.text = "other";
  auto second = ledger->RecordOutcomes(unit.id, 2, outcomes, 9, 9);
  CHECK(second->recorded == 0);
  CHECK(second->duplicates == 2);
  CHECK((*ledger->Samples(WorkKind::kTraining, 1))[0].result->outcome.text ==
        "t");
  CHECK(ledger->FindUnit(unit.id)->generation_seconds == 1);
}

TEST_CASE("The audit proves a whole run and finds each tampering", "[ledger]") {
  const fs::path path = FreshFile();
  auto ledger = Opened(path);
  RunStep(*ledger, 1, "ref-1");
  RunStep(*ledger, 2);
  REQUIRE(ledger->PlanStep(3, UnitsOf(3), true, kNow).ok());
  const AuditReport report = Audited(path);
  for (const auto& check : report.checks) {
    INFO(check.name << ": " << check.detail);
    CHECK(check.ok);
  }
  CHECK(report.committed_steps == 2);
  CHECK(report.samples_planned == 12);
  CHECK(report.samples_committed == 8);
  CHECK(report.samples_unscorable == 0);

  const char* tampering[] = {
      "UPDATE samples SET complete = 0 WHERE step = 1 AND position = 0",
      "DELETE FROM batches WHERE step = 2 AND position = 1",
      "UPDATE batches SET step = 2, position = 9 WHERE step = 1 AND "
      "position = 0",
      "UPDATE samples SET seed = 1 WHERE step = 1 AND position = 0",
      "UPDATE samples SET epoch = 4 WHERE step = 1 AND position = 0",
      "UPDATE steps SET state = 'planned' WHERE step = 1",
      "UPDATE steps SET weights_sha256 = '' WHERE step = 1",
      "UPDATE rubrics SET yaml = 'other'",
      "UPDATE rubrics SET version = 5",
      "UPDATE run SET lease_epoch = 99",
      "UPDATE samples SET verdict = json_set(verdict, '$.rubric_sha256', 'z')"
      " WHERE step = 1 AND position = 0",
  };
  for (const char* sql : tampering) {
    const fs::path copy = path.string() + ".copy";
    fs::remove(copy);
    REQUIRE(ledger->database().Run("VACUUM INTO ?", copy.string()).ok());
    {
      auto database = store::Database::Open(copy);
      REQUIRE(database.ok());
      REQUIRE((*database)->Run(sql).ok());
    }
    INFO(sql);
    CHECK_FALSE(Audited(copy).ok());
  }
}

TEST_CASE("A step is committed once, with its refinement", "[ledger]") {
  const fs::path path = FreshFile();
  auto ledger = Opened(path);
  RunStep(*ledger, 1, "ref-1");
  StepRecord again;
  again.step = 1;
  again.weights_sha256 = "other";
  REQUIRE(ledger->CommitStep(again, "ref-2", kNow).ok());
  ledger = Opened(path);
  CHECK(ledger->FindStep(1)->weights_sha256 == kWeights);
  CHECK(ledger->FindStep(1)->metrics.at("kl") == 0.1);
  auto refinements = ledger->Refinements();
  REQUIRE(refinements->size() == 1);
  CHECK((*refinements)[0].base_rubric == RubricOf("v0").sha256);
  CHECK(ledger->ReadProgress()->open_refinement == 1);
  REQUIRE(ledger->PlanEvaluation(1, PlanEvaluation(Plan(), 1), kNow).ok());
  CHECK(ledger->ReadProgress()->open_evaluations == 1);
  REQUIRE(ledger->FinishEvaluation(1, {{"heldout_gold", 0.1}}).ok());
  CHECK(ledger->FindStep(1)->metrics.at("heldout_gold") == 0.1);
  CHECK(ledger->Evaluations()->at(1).at("heldout_gold") == 0.1);
}

TEST_CASE("The rubric store keeps lineage and one active rubric", "[ledger]") {
  auto ledger = Opened(FreshFile());
  const std::string v0 = RubricOf("v0").sha256;
  RubricRecord v1 = RubricOf("v1");
  v1.parent = v0;
  v1.origin = "operator";
  REQUIRE(ledger->AddRubric(v1, kNow).ok());
  REQUIRE(ledger->AddRubric(v1, kNow).ok());
  CHECK(ledger->FindRubric(1)->state == RubricState::kDraft);
  REQUIRE(ledger->ActivateRubric(v1.sha256, kNow).ok());
  CHECK(ledger->Run()->active_rubric == v1.sha256);
  CHECK(ledger->FindRubric(v0)->state == RubricState::kRetired);
  REQUIRE(ledger->PlanStep(1, UnitsOf(1), true, kNow).ok());
  CHECK(ledger->FindRubric(1)->first_step == 1);
  CHECK(ledger->ReadUnit("train/1/0")->monitor_rubric_sha256 == v0);
  RubricRecord bad = RubricOf("bad");
  bad.parent = v1.sha256;
  bad.state = RubricState::kRejected;
  bad.reasons = {"no criteria"};
  REQUIRE(ledger->AddRubric(bad, kNow).ok());
  CHECK_FALSE(ledger->FindRubric(bad.sha256)->version.has_value());
  CHECK(absl::IsFailedPrecondition(ledger->ActivateRubric(bad.sha256, kNow)));
  CHECK(absl::IsNotFound(ledger->ActivateRubric("nope", kNow)));
  CHECK(absl::IsNotFound(ledger->FindRubric(7).status()));
  CHECK(ledger->Rubrics()->size() == 3);
  CHECK(ledger->Rubrics()->back().reasons[0] == "no criteria");
}

TEST_CASE("EndRefinement takes effect once", "[ledger]") {
  auto ledger = Opened(FreshFile());
  RunStep(*ledger, 1, "ref-1");
  REQUIRE(ledger->CountRefinementAttempt("ref-1").ok());
  RefinementRecord end = (*ledger->Refinements())[0];
  CHECK(end.attempts == 1);
  RubricRecord v1 = RubricOf("v1");
  v1.parent = end.base_rubric;
  v1.origin = "refinement";
  end.state = RefinementState::kAccepted;
  end.result_rubric = v1.sha256;
  end.changes = {{"add", "x", "why"}};
  end.memory = "m";
  CHECK(*ledger->EndRefinement(end, v1, kNow));
  CHECK(ledger->Run()->active_rubric == v1.sha256);
  end.state = RefinementState::kFailed;
  CHECK_FALSE(*ledger->EndRefinement(end, std::nullopt, kNow));
  const RefinementRecord read = (*ledger->Refinements())[0];
  CHECK(read.state == RefinementState::kAccepted);
  CHECK(read.changes[0].reason == "why");
  CHECK(read.memory == "m");
  CHECK_FALSE(ledger->ReadProgress()->open_refinement.has_value());
}

TEST_CASE("Reading what is not the ledger's JSON is data loss", "[ledger]") {
  CHECK(absl::IsDataLoss(VerdictFromJson("{").status()));
  CHECK(absl::IsDataLoss(VerdictFromJson("{\"scored\":1}").status()));
  CHECK(absl::IsDataLoss(PromptFromJson("[]").status()));
}

}  // namespace mpo::orchestrator
