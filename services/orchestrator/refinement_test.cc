// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "services/orchestrator/engine_fixture.h"

namespace mpo::orchestrator {
namespace {

using Refined = OrchestratorEngine::Refined;

// A run that reviews after every second step.
struct ReviewedRun : TestRun {
  ReviewedRun() {
    options.policy.meta_every = 2;
    options.plan.total_steps = 6;
    Open();
  }
  Refined Review() {
    const Refined refined = engine->Refine({});
    engine->Tick();
    return refined;
  }
  RefinementRecord Last() { return ledger->Refinements()->back(); }
};

}  // namespace

TEST_CASE("An accepted refinement judges the next planned step",
          "[refinement]") {
  ReviewedRun run;
  run.options.policy.barrier = true;
  run.Open();
  run.RunStep(1);
  CHECK(run.Review() == Refined::kNone);
  run.RunStep(2);
  CHECK(run.Status().phase == Phase::kRefining);
  CHECK_FALSE(run.Lease()->unit.has_value());
  run.answer = run.Adding("three");
  CHECK(run.Review() == Refined::kEnded);
  REQUIRE(run.requests.size() == 1);
  const RefinementRequest& request = run.requests[0];
  CHECK(request.id == "r/refinement/2");
  CHECK(request.rubric == run.initial);
  REQUIRE(request.recent.size() == 4);
  REQUIRE(request.baseline.size() == 4);
  CHECK(request.recent[0].step == 2);
  CHECK(request.baseline[0].step == 1);
  CHECK(request.recent[0].base_mean_logprob == -1);
  CHECK(run.Last().state == RefinementState::kAccepted);
  CHECK(run.Status().rubric_version == 1);
  const WorkUnit unit = run.LeasedUnit();
  const std::string v0 = TestRules().sha256(run.initial);
  CHECK(unit.rubric_sha256 == TestRules().sha256(run.Adding("three").rubric));
  CHECK(unit.monitor_rubric_sha256 == v0);
  REQUIRE(run.engine->CompleteWork(TestRun::CompletionOf(unit)).ok());
  run.RunStep(3);
  auto steps = run.engine->ListSteps(2);
  CHECK((*steps)[0].metrics.at("proxy") == Approx(2));  // The monitor's.
  CHECK((*steps)[0].rubric_version == 1);
  auto rubrics = run.engine->ListRubrics();
  REQUIRE(rubrics->size() == 2);
  CHECK((*rubrics)[0].state == RubricState::kRetired);
  CHECK((*rubrics)[1].parent == v0);
  CHECK((*rubrics)[1].first_step == 3);
  CHECK((*rubrics)[1].reasons[0] == "add three: it was gamed");
  run.RunStep(4);
  run.answer = run.Adding("four");
  CHECK(run.Review() == Refined::kEnded);
  CHECK(run.requests[1].memory == "after three");
  CHECK(run.Audit().ok());
}

TEST_CASE("Asynchronous refinement never stops the learner", "[refinement]") {
  ReviewedRun run;
  run.RunStep(1);
  run.RunStep(2);
  run.RunStep(3);
  run.RunStep(4);  // Its review is skipped: the first is still open.
  CHECK(run.ledger->Refinements()->size() == 1);
  run.answer = run.Adding("three");
  CHECK(run.Review() == Refined::kEnded);
  run.RunStep(5);  // Was planned before.
  CHECK((*run.engine->ListSteps(4))[0].rubric_version == 0);
  run.RunStep(6);
  CHECK((*run.engine->ListSteps(5))[0].rubric_version == 1);
  CHECK(run.ledger->Refinements()->size() == 1);  // None after the last step.
  CHECK(run.Status().phase == Phase::kFinished);
}

TEST_CASE("A bad proposal changes nothing", "[refinement]") {
  ReviewedRun run;
  run.RunStep(1);
  run.RunStep(2);
  const std::string before = run.Status().rubric_sha256;
  RefinementProposal proposal = run.Adding("three");
  SECTION("not valid") {
    proposal.rubric.criteria.clear();
    run.answer = proposal;
    CHECK(run.Review() == Refined::kEnded);
    CHECK(run.Last().state == RefinementState::kRejected);
    CHECK(run.Last().reasons == std::vector<std::string>{"no criteria"});
    auto rubrics = run.engine->ListRubrics();
    CHECK(rubrics->back().state == RubricState::kRejected);
    CHECK(rubrics->back().reasons[0] == "no criteria");
  }
  SECTION("too many criteria") {
    proposal.rubric.criteria.resize(13);
    run.answer = proposal;
    CHECK(run.Review() == Refined::kEnded);
    CHECK(run.Last().state == RefinementState::kRejected);
  }
  SECTION("nothing to change") {
    proposal.rubric = run.initial;
    proposal.changes.clear();
    run.answer = proposal;
    CHECK(run.Review() == Refined::kEnded);
    CHECK(run.Last().state == RefinementState::kUnchanged);
    CHECK(run.Last().memory == "after three");
    CHECK(run.engine->ListRubrics()->size() == 1);
  }
  SECTION("refused by the meta-judge's own check") {
    run.answer = absl::FailedPreconditionError("criterion x has no text");
    CHECK(run.Review() == Refined::kEnded);
    CHECK(run.Last().state == RefinementState::kRejected);
    CHECK(run.Last().reasons[0] == "criterion x has no text");
  }
  SECTION("no answer") {
    for (int i = 0; i < 4; ++i) CHECK(run.Review() == Refined::kRetry);
    CHECK(run.Review() == Refined::kEnded);
    CHECK(run.Last().state == RefinementState::kFailed);
    CHECK(run.Last().attempts == 5);
    CHECK(run.Last().reasons[0] == "down");
  }
  SECTION("another rubric became active meanwhile") {
    const auto sha = run.engine->ProposeRubric(*TestParse("essay:x"), "mine");
    REQUIRE(sha.ok());
    REQUIRE(run.engine->ActivateRubric(*sha).ok());
    run.answer = proposal;
    CHECK(run.Review() == Refined::kEnded);
    CHECK(run.Last().state == RefinementState::kRejected);
    CHECK(run.Status().rubric_sha256 == *sha);
    CHECK(run.engine->ListRubrics()->back().state == RubricState::kDraft);
    REQUIRE(run.engine->RollbackRubric().ok());
  }
  CHECK(run.Status().rubric_sha256 == before);
  run.RunStep(3);
  CHECK(run.Audit().ok());
}

TEST_CASE("Evidence without a single score fails the refinement",
          "[refinement]") {
  ReviewedRun run;
  run.options.policy.max_unscorable = 1;
  run.Open();
  for (int64_t step = 1; step <= 2; ++step) {
    run.GenerateAll(/*scored=*/false);
    REQUIRE(run.Batch(step)->batch.has_value());
    REQUIRE(run.engine->CommitStep(TestRun::CommitOf(step)).ok());
    run.engine->Tick();
  }
  CHECK(run.Review() == Refined::kEnded);
  CHECK(run.requests.empty());
  CHECK(run.Last().state == RefinementState::kFailed);
}

TEST_CASE("A refinement that was interrupted is asked again, unchanged",
          "[refinement]") {
  ReviewedRun run;
  run.RunStep(1);
  run.RunStep(2);
  std::stop_source killed;
  killed.request_stop();
  CHECK(run.engine->Refine(killed.get_token()) == Refined::kNone);
  run.Open();
  run.RunStep(3);
  run.answer = run.Adding("three");
  CHECK(run.Review() == Refined::kEnded);
  REQUIRE(run.requests.size() == 2);
  CHECK(run.requests[0].id == run.requests[1].id);
  REQUIRE(run.requests[0].recent.size() == run.requests[1].recent.size());
  CHECK(run.requests[0].recent[0].sample_key ==
        run.requests[1].recent[0].sample_key);
  CHECK(run.Last().attempts == 0);
  CHECK(run.Last().state == RefinementState::kAccepted);
  run.Open();
  CHECK(run.Review() == Refined::kNone);
  CHECK(run.Status().rubric_version == 1);
}

TEST_CASE("Stopping the run ends the review that is open", "[refinement]") {
  ReviewedRun run;
  run.RunStep(1);
  run.RunStep(2);
  // The operator stops the run while the answer is awaited.
  run.while_asked = [&run](std::stop_token stop) {
    CHECK_FALSE(stop.stop_requested());
    REQUIRE(run.engine->StopRun().ok());
    CHECK(stop.stop_requested());
  };
  run.answer = run.Adding("three");
  CHECK(run.Review() == Refined::kNone);
  CHECK(run.Last().state == RefinementState::kFailed);
  CHECK(run.Last().reasons.at(0) == "the run was stopped");
  CHECK(run.metrics.Refinements(RefinementState::kFailed).Value() == 1);
  CHECK(run.metrics.Refinements(RefinementState::kAccepted).Value() == 0);
  CHECK(run.engine->ListRubrics()->size() == 1);
  run.RunStep(3);
  CHECK(run.Status().phase == Phase::kFinished);
}

TEST_CASE("A review that fails after the last step is not asked again",
          "[refinement]") {
  ReviewedRun run;
  for (int step = 1; step <= 6; ++step) run.RunStep(step);
  CHECK(run.Status().phase != Phase::kFinished);
  run.answer = absl::UnavailableError("the meta-judge is away");
  CHECK(run.Review() == Refined::kEnded);
  CHECK(run.Last().state == RefinementState::kFailed);
  CHECK(run.Status().phase == Phase::kFinished);
}

TEST_CASE("Operators propose, activate and roll back", "[refinement]") {
  ReviewedRun run;
  CHECK(absl::IsInvalidArgument(
      run.engine->ProposeRubric(Rubric{}, "x").status()));
  CHECK(absl::IsFailedPrecondition(run.engine->RollbackRubric().status()));
  CHECK(absl::IsNotFound(run.engine->ActivateRubric("nope")));
  CHECK(absl::IsNotFound(run.engine->GetRubric("nope").status()));
  CHECK(absl::IsNotFound(run.engine->GetRubric(4).status()));
  const auto sha = run.engine->ProposeRubric(*TestParse("essay:x"), "mine");
  REQUIRE(sha.ok());
  CHECK(*run.engine->ProposeRubric(*TestParse("essay:x"), "again") == *sha);
  REQUIRE(run.engine->ActivateRubric(*sha).ok());
  run.RunStep(1);  // Planned before the activation.
  CHECK((*run.engine->ListSteps(0))[0].rubric_version == 0);
  CHECK(run.LeasedUnit().rubric_sha256 == *sha);
  CHECK(run.engine->GetRubric(1)->rubric == *TestParse("essay:x"));
  CHECK(*run.engine->RollbackRubric() == TestRules().sha256(run.initial));
  CHECK(run.Status().rubric_version == 0);
  CHECK(run.Audit().ok());
}

TEST_CASE("The engine's own threads lease, refine and finish", "[refinement]") {
  Mutex mu;
  CondVar seen;
  bool refined = false;
  bool over = false;
  ReviewedRun run;
  run.RunStep(1);
  run.RunStep(2);
  run.answer = run.Adding("three");
  run.engine->Subscribe([&](const std::optional<RunStatus>& status) {
    MutexLock lock(mu);
    if (status && status->rubric_version == 1) refined = true;
    if (!status) over = true;
    seen.NotifyAll();
  });
  run.engine->Start();
  {
    MutexLock lock(mu);
    CHECK(seen.WaitFor(mu, {}, absl::Seconds(20), [&] { return refined; }));
  }
  run.engine->Shutdown();
  MutexLock lock(mu);
  CHECK(seen.WaitFor(mu, {}, absl::Seconds(20), [&] { return over; }));
}

}  // namespace mpo::orchestrator
