// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/orchestrator_engine.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "mpo/base/file.h"
#include "mpo/store/database.h"
#include "services/orchestrator/engine_fixture.h"

namespace mpo::orchestrator {

TEST_CASE("A run goes from plan to finish and its audit holds", "[engine]") {
  TestRun run;
  run.options.plan.evaluation_every = 2;
  Prompt held;
  held.id = "held";
  run.options.plan.heldout.push_back(held);
  run.Open();
  CHECK(run.Status().phase == Phase::kGenerating);
  for (int64_t step = 1; step <= 4; ++step) run.RunStep(step);
  CHECK(run.Status().phase == Phase::kGenerating);  // The last evaluation.
  run.GenerateAll();
  const RunStatus status = run.Status();
  CHECK(status.phase == Phase::kFinished);
  CHECK(status.step == 4);
  CHECK(run.Lease()->finished);
  CHECK(run.Batch(5)->finished);
  auto steps = run.engine->ListSteps(-1);
  REQUIRE(steps->size() == 5);
  CHECK((*steps)[0].metrics.at("heldout_gold") == Approx(6.5));
  const StepRecord& second = (*steps)[2];
  CHECK(second.metrics.at("proxy") == Approx(4));
  CHECK(second.metrics.at("gold") == Approx(6.5));
  CHECK(second.metrics.at("reward") == Approx(0.4));
  CHECK(second.metrics.at("kl") == Approx(0.1));
  CHECK(second.metrics.at("tokens_per_second") == Approx(10));
  CHECK(second.metrics.at("heldout_proxy") == Approx(4));
  CHECK((*steps)[1].metrics.count("heldout_proxy") == 0);
  CHECK(second.seconds.at("generation") == Approx(4));
  CHECK(second.seconds.at("forward") == Approx(1.5));
  for (const auto& check : run.Audit().checks) {
    INFO(check.name << ": " << check.detail);
    CHECK(check.ok);
  }
}

TEST_CASE("An expired lease is granted again and its late result counts once",
          "[engine]") {
  TestRun run;
  run.Open();
  const WorkUnit first = run.LeasedUnit();
  CHECK(first.sampling.max_new_tokens == 9);
  CHECK(run.LeasedUnit().id != first.id);
  CHECK_FALSE(run.Lease()->unit.has_value());
  run.clock.Advance(absl::Seconds(6));
  CHECK(run.engine->Heartbeat("actor#1", {"train/1/1"})->empty());
  run.clock.Advance(absl::Seconds(5));
  const WorkUnit again = run.LeasedUnit();
  CHECK(again.id == first.id);
  CHECK(again.lease_epoch > first.lease_epoch);
  auto late = run.engine->CompleteWork(TestRun::CompletionOf(first));
  REQUIRE(late.ok());
  CHECK(late->recorded == 2);
  auto slow = run.engine->CompleteWork(TestRun::CompletionOf(again));
  REQUIRE(slow.ok());
  CHECK(slow->duplicates == 2);
  run.engine->Tick();
  CHECK(*run.engine->Heartbeat("actor#1", {again.id, "train/1/1"}) ==
        std::vector<std::string>{again.id});
}

TEST_CASE("Results are refused that are not the unit's", "[engine]") {
  TestRun run;
  run.Open();
  const WorkUnit unit = run.LeasedUnit();
  Completion completion = TestRun::CompletionOf(unit);
  const auto code = [&run](const Completion& one) {
    return run.engine->CompleteWork(one).status().code();
  };
  using absl::StatusCode;
  SECTION("an epoch that was never granted") {
    completion.lease_epoch = 77;
    CHECK(code(completion) == StatusCode::kFailedPrecondition);
  }
  SECTION("an epoch of another member") {
    completion.member_id = std::string("other#1");
    CHECK(code(completion) == StatusCode::kFailedPrecondition);
  }
  SECTION("an unknown unit") {
    completion.unit_id = std::string("train/9/9");
    CHECK(code(completion) == StatusCode::kFailedPrecondition);
  }
  SECTION("a missing sample") {
    completion.outcomes.pop_back();
    CHECK(code(completion) == StatusCode::kInvalidArgument);
  }
  SECTION("a sample twice") {
    completion.outcomes[1] = completion.outcomes[0];
    CHECK(code(completion) == StatusCode::kInvalidArgument);
  }
  SECTION("another rubric") {
    completion.outcomes[0].verdict.rubric_sha256 = std::string("other");
    CHECK(code(completion) == StatusCode::kInvalidArgument);
  }
  SECTION("a reward that is not finite") {
    completion.outcomes[0].verdict.reward = std::nan("");
    CHECK(code(completion) == StatusCode::kInvalidArgument);
  }
  SECTION("a score for a failed generation") {
    completion.outcomes[0].finish_reason = FinishReason::kFailed;
    CHECK(code(completion) == StatusCode::kInvalidArgument);
  }
  SECTION("weights that are too old") {
    completion.outcomes[0].policy_version = -1;
    CHECK(code(completion) == StatusCode::kAborted);
  }
  CHECK(run.Status().samples_done == 0);
}

TEST_CASE("A unit that keeps failing pauses the run with its reason",
          "[engine]") {
  TestRun run;
  run.options.plan.unit_size = 4;
  run.Open();
  for (int i = 0; i < 6; ++i) {
    const WorkUnit unit = run.LeasedUnit();
    Completion failed;
    failed.member_id = std::string("actor#1");
    failed.unit_id = unit.id;
    failed.lease_epoch = unit.lease_epoch;
    failed.failure = std::string("judge is gone");
    CHECK(run.engine->CompleteWork(failed).ok());
    CHECK_FALSE(run.Lease()->unit.has_value());  // Not at once.
    run.clock.Advance(absl::Seconds(20));
    run.Join("actor", "1");
  }
  RunStatus status = run.Status();
  CHECK(status.phase == Phase::kPaused);
  CHECK(status.reason.find("judge is gone") != std::string::npos);
  run.Open();
  CHECK(run.Status().phase == Phase::kPaused);
  REQUIRE(run.engine->ResumeRun().ok());
  run.RunStep(1);
}

TEST_CASE("A drain's units are leased again at once and did not fail",
          "[engine]") {
  TestRun run;
  run.options.plan.unit_size = 4;
  run.Open();
  for (int i = 0; i < 10; ++i) {
    const WorkUnit unit = run.LeasedUnit();
    Completion back;
    back.member_id = std::string("actor#1");
    back.unit_id = unit.id;
    back.lease_epoch = unit.lease_epoch;
    back.failure = std::string("actor is draining");
    back.draining = true;
    CHECK(run.engine->CompleteWork(back).ok());
    CHECK(run.ledger->FindUnit(unit.id)->failures == 0);
  }
  CHECK(run.Status().phase == Phase::kGenerating);
  run.RunStep(1);
}

TEST_CASE("Trouble that passes is not told as a pause", "[engine]") {
  std::vector<RunStatus> told;
  TestRun run;
  run.Open();
  run.engine->Subscribe([&told](const std::optional<RunStatus>& status) {
    if (status) told.push_back(*status);
  });
  const WorkUnit unit = run.LeasedUnit();
  REQUIRE(run.ledger->database().QueryInt("PRAGMA busy_timeout=1").ok());
  auto other = store::Database::Open(run.path());
  REQUIRE(other.ok());
  REQUIRE((*other)->Run("BEGIN IMMEDIATE").ok());
  run.clock.Advance(run.options.lease);  // To be written down, but cannot.
  run.engine->Tick();
  CHECK(run.metrics.ledger_errors.Value() == 1);
  CHECK(told.back().phase == Phase::kGenerating);
  SECTION("it passes") {
    REQUIRE((*other)->Run("ROLLBACK").ok());
    run.engine->Tick();
    CHECK(run.metrics.ledger_errors.Value() == 1);
    CHECK(run.ledger->FindUnit(unit.id)->state == UnitState::kReady);
  }
  SECTION("it lasts") {
    run.clock.Advance(absl::Seconds(10));
    run.engine->Tick();
    CHECK(told.back().phase == Phase::kPaused);
    CHECK(told.back().reason.find("locked") != std::string::npos);
    REQUIRE((*other)->Run("ROLLBACK").ok());
    run.engine->Tick();
  }
  CHECK(told.back().phase == Phase::kGenerating);
  CHECK(run.engine->Failure().ok());
}

TEST_CASE("A restarted member loses its leases at once", "[engine]") {
  TestRun run;
  run.Open();
  const WorkUnit unit = run.LeasedUnit();
  CHECK(run.Join("actor", "1") == "actor#1");
  CHECK(run.Lease()->unit->id != unit.id);
  CHECK(run.Join("actor", "2") == "actor#2");
  CHECK(run.Lease("actor#2")->unit->id == unit.id);
  CHECK(absl::IsNotFound(run.Lease("actor#1").status()));
  CHECK(absl::IsNotFound(run.engine->Heartbeat("actor#1", {}).status()));
  CHECK(run.engine->CompleteWork(TestRun::CompletionOf(unit))->recorded == 2);
}

TEST_CASE("Register checks who joins", "[engine]") {
  TestRun run;
  run.Open();
  const MemberRecord member{.id = {},
                            .role = "rollout_actor",
                            .name = "x",
                            .incarnation = "1",
                            .address = {}};
  const absl::Status other = run.engine->Register(member, "else").status();
  CHECK(absl::IsFailedPrecondition(other));
  CHECK(std::string(other.message()).find("expected config") !=
        std::string::npos);
  CHECK(run.engine->Register(member, "").ok());
  CHECK(absl::IsInvalidArgument(run.engine->Register({}, "").status()));
}

TEST_CASE("A waiting call is answered by work, deadline, cancel or shutdown",
          "[engine]") {
  std::vector<absl::StatusOr<LeaseReply>> answers;
  TestRun run;
  run.Open();
  run.LeasedUnit();
  const WorkUnit last = run.LeasedUnit();
  const auto keep = [&answers](absl::StatusOr<LeaseReply> one) {
    answers.push_back(one);
  };
  run.engine->LeaseWork("actor#1", absl::Seconds(5), keep);
  run.engine->Tick();
  CHECK(answers.empty());
  SECTION("deadline") {
    run.clock.Advance(absl::Seconds(5));
    run.engine->Tick();
    REQUIRE(answers.size() == 1);
    CHECK_FALSE(answers[0]->unit.has_value());
    CHECK_FALSE(answers[0]->finished);
  }
  SECTION("work") {
    Completion failed;
    failed.member_id = std::string("actor#1");
    failed.unit_id = last.id;
    failed.lease_epoch = last.lease_epoch;
    failed.failure = std::string("x");
    REQUIRE(run.engine->CompleteWork(failed).ok());
    run.clock.Advance(absl::Seconds(1));
    run.engine->Tick();
    REQUIRE(answers.size() == 1);
    CHECK(answers[0]->unit->id == last.id);
  }
  SECTION("cancel") {
    const uint64_t id =
        run.engine->LeaseWork("actor#1", absl::Seconds(5), keep);
    run.engine->CancelWait(id);
    run.engine->CancelWait(id + 100);
    run.engine->Tick();
    REQUIRE(answers.size() == 1);
    CHECK(absl::IsCancelled(answers[0].status()));
  }
  SECTION("shutdown") {
    static bool ended = false;
    run.engine->Subscribe([](const std::optional<RunStatus>& status) {
      ended = !status.has_value();
    });
    run.engine->Tick();
    CHECK_FALSE(ended);
    run.engine->Shutdown();
    REQUIRE(answers.size() == 1);
    CHECK(absl::IsUnavailable(answers[0].status()));
    CHECK(ended);
  }
}

TEST_CASE("The same step gets the same batch, also after a restart",
          "[engine]") {
  TestRun run;
  run.Open();
  CHECK_FALSE(run.Batch(1)->batch.has_value());
  CHECK(absl::IsFailedPrecondition(run.Batch(2).status()));
  CHECK(absl::IsInvalidArgument(run.Batch(0).status()));
  CHECK(absl::IsFailedPrecondition(
      run.engine->CommitStep(TestRun::CommitOf(1)).status()));
  run.GenerateAll();
  CHECK(absl::IsFailedPrecondition(
      run.engine->CommitStep(TestRun::CommitOf(1)).status()));
  const auto batch = run.Batch(1);
  REQUIRE(batch->batch.has_value());
  CHECK(batch->batch->sample_keys.size() == 4);
  CHECK(run.Status().phase == Phase::kTraining);
  run.Open();
  CHECK(run.Batch(1)->batch->sample_keys == batch->batch->sample_keys);
  StepCommit commit = TestRun::CommitOf(1);
  commit.metrics["policy_loss"] = std::nan("");
  CHECK(*run.engine->CommitStep(commit) == false);
  run.Open();
  CHECK(*run.engine->CommitStep(commit) == true);
  commit.weights_sha256 = std::string(64, 'f');
  const absl::Status other = run.engine->CommitStep(commit).status();
  CHECK(absl::IsFailedPrecondition(other));
  commit.weights_sha256 = std::string("short");
  CHECK(absl::IsInvalidArgument(run.engine->CommitStep(commit).status()));
  CHECK(run.Batch(1)->batch->sample_keys == batch->batch->sample_keys);
  auto steps = run.engine->ListSteps(0);
  CHECK((*steps)[0].metrics.count("policy_loss") == 0);
  CHECK((*steps)[0].metrics.at("nonfinite_metrics") == 1);
}

TEST_CASE("A run killed at every point ends like one that was not",
          "[engine]") {
  const auto keys = [](bool kill) {
    TestRun run;
    run.Open();
    std::vector<std::string> all;
    const auto maybe_kill = [&run, kill] {
      if (kill) run.Open();
    };
    for (int64_t step = 1; step <= 4; ++step) {
      for (int unit = 0; unit < 2; ++unit) {
        const WorkUnit leased = run.LeasedUnit();
        maybe_kill();
        REQUIRE(run.engine->CompleteWork(TestRun::CompletionOf(leased)).ok());
        maybe_kill();
        run.engine->Tick();
        maybe_kill();
      }
      const auto batch = run.Batch(step);
      maybe_kill();
      REQUIRE(run.engine->CommitStep(TestRun::CommitOf(step)).ok());
      maybe_kill();
      REQUIRE(run.engine->CommitStep(TestRun::CommitOf(step)).ok());
      run.engine->Tick();
      all.insert(all.end(), batch->batch->sample_keys.begin(),
                 batch->batch->sample_keys.end());
    }
    CHECK(run.Status().phase == Phase::kFinished);
    CHECK(run.Audit().ok());
    return all;
  };
  CHECK(keys(false) == keys(true));
}

TEST_CASE("A lease survives a restart for one lease time", "[engine]") {
  TestRun run;
  run.Open();
  const WorkUnit unit = run.LeasedUnit();
  run.Open();
  CHECK(run.engine->Heartbeat("actor#1", {unit.id})->empty());
  CHECK(run.Lease()->unit->id != unit.id);
  run.clock.Advance(absl::Seconds(11));
  run.engine->Tick();
  run.Join("actor", "1");
  const WorkUnit again = run.LeasedUnit();
  CHECK(again.id == unit.id);
  CHECK(again.lease_epoch == 3);
}

TEST_CASE("Too many unscorable samples pause until resumed by hand",
          "[engine]") {
  TestRun run;
  run.Open();
  run.GenerateAll(/*scored=*/false);
  RunStatus status = run.Status();
  CHECK(status.phase == Phase::kPaused);
  CHECK(status.reason.find("100 %") != std::string::npos);
  CHECK_FALSE(run.Batch(1)->batch.has_value());
  run.Open();
  CHECK(run.Status().phase == Phase::kPaused);
  CHECK_FALSE(run.Batch(1)->batch.has_value());
  REQUIRE(run.engine->ResumeRun().ok());
  run.engine->Tick();
  CHECK(run.Status().phase == Phase::kGenerating);
  run.Open();
  CHECK(run.Batch(1)->batch.has_value());
  REQUIRE(run.engine->CommitStep(TestRun::CommitOf(1)).ok());
  CHECK((*run.engine->ListSteps(0))[0].metrics.at("unscorable") == 4);
  CHECK((*run.engine->ListSteps(0))[0].metrics.count("reward") == 0);
}

TEST_CASE("Pause, resume and stop", "[engine]") {
  TestRun run;
  run.Open();
  REQUIRE(run.engine->PauseRun("lunch").ok());
  CHECK_FALSE(run.Lease()->unit.has_value());
  CHECK(run.Status().reason == "lunch");
  REQUIRE(run.engine->ResumeRun().ok());
  run.RunStep(1);
  REQUIRE(run.engine->StopRun().ok());
  run.RunStep(2);
  CHECK(run.Status().phase == Phase::kFinished);
  CHECK(run.Status().total_steps == 2);
  run.Open();
  CHECK(run.Lease()->finished);
  CHECK(run.Batch(3)->finished);
  CHECK(run.Audit().ok());
}

TEST_CASE("Leases run ahead by the staleness that is allowed", "[engine]") {
  TestRun run;
  run.options.policy.max_staleness = 1;
  run.options.plan.max_staleness = 1;
  run.Open();
  std::vector<std::string> ids;
  while (true) {
    auto reply = run.Lease();
    if (!reply->unit) break;
    ids.push_back(reply->unit->id);
  }
  CHECK(ids == std::vector<std::string>{"train/1/0", "train/1/1", "train/2/0",
                                        "train/2/1"});
}

TEST_CASE("The run directory is an export of the ledger", "[engine]") {
  TestRun run;
  run.Open();
  run.RunStep(1);
  const auto lines = [&run](const char* name) {
    std::ifstream file(run.directory / name);
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  };
  CHECK(lines("metrics.jsonl") == 1);
  CHECK(lines("samples.jsonl") == 4);
  std::filesystem::remove(run.directory / "metrics.jsonl");
  run.Open();
  run.RunStep(2);
  CHECK(lines("metrics.jsonl") == 2);
  CHECK(lines("samples.jsonl") == 8);
  CHECK(*ReadFile(run.directory / "rubrics/global/0.yaml") == "essay:one,two");
}

TEST_CASE("A full disk is told and nothing is lost", "[engine]") {
  std::vector<RunStatus> told;
  TestRun run;
  run.Open();
  const WorkUnit unit = run.LeasedUnit();
  run.engine->Subscribe([&told](const std::optional<RunStatus>& status) {
    if (status) told.push_back(*status);
  });
  run.engine->Tick();
  auto& database = run.ledger->database();
  const auto pages = database.QueryInt("PRAGMA page_count");
  REQUIRE(pages.ok());
  REQUIRE(
      database.QueryInt(absl::StrCat("PRAGMA max_page_count=", **pages).c_str())
          .ok());
  Completion completion = TestRun::CompletionOf(unit);
  for (Outcome& outcome : completion.outcomes) outcome.text.resize(300000, 'x');
  CHECK(
      absl::IsResourceExhausted(run.engine->CompleteWork(completion).status()));
  REQUIRE(database.QueryInt("PRAGMA max_page_count=100000").ok());
  CHECK(run.engine->CompleteWork(completion)->recorded == 2);
  REQUIRE(database.Run("ALTER TABLE events RENAME TO gone").ok());
  run.clock.Advance(absl::Seconds(20));
  REQUIRE(run.engine->PauseRun("x").code() != absl::StatusCode::kOk);
  REQUIRE(database.Run("ALTER TABLE gone RENAME TO events").ok());
  REQUIRE(database.Run("ALTER TABLE steps RENAME TO gone").ok());
  run.engine->Tick();
  REQUIRE(told.size() == 2);
  CHECK(told[1].phase == Phase::kPaused);
  CHECK(told[1].reason.find("no such table") != std::string::npos);
  CHECK_FALSE(run.engine->Failure().ok());
  REQUIRE(database.Run("ALTER TABLE gone RENAME TO steps").ok());
  run.engine->Tick();
  CHECK(told.back().phase == Phase::kGenerating);
}

TEST_CASE("Create refuses a plan that cannot be", "[engine]") {
  TestRun run;
  run.Open();
  run.options.plan.unit_size = 1;
  CHECK(absl::IsInvalidArgument(
      OrchestratorEngine::Create(run.options, {.ledger = *run.ledger,
                                               .clock = run.clock,
                                               .metrics = run.metrics,
                                               .refine = nullptr,
                                               .gold = nullptr,
                                               .rubrics = TestRules()})
          .status()));
}

}  // namespace mpo::orchestrator
