// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/registry.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "mpo/base/clock.h"
#include "mpo/base/digest.h"
#include "services/orchestrator/ledger_audit.h"
#include "services/orchestrator/orchestrator_engine.h"

namespace mpo::orchestrator {

// Rubrics of tests as text: "id:criterion,criterion".
inline std::string TestYaml(const Rubric& rubric) {
  std::vector<std::string> ids;
  for (const Criterion& one : rubric.criteria) ids.push_back(one.id);
  return absl::StrCat(rubric.id, ":", absl::StrJoin(ids, ","));
}

inline absl::StatusOr<Rubric> TestParse(const std::string& yaml) {
  const std::vector<std::string> parts = absl::StrSplit(yaml, ':');
  if (parts.size() != 2) return absl::InvalidArgumentError("no rubric");
  Rubric rubric;
  rubric.id = parts[0];
  for (const absl::string_view id :
       absl::StrSplit(parts[1], ',', absl::SkipEmpty())) {
    Criterion criterion;
    criterion.id = std::string(id);
    rubric.criteria.push_back(criterion);
  }
  return rubric;
}

inline RubricRules TestRules() {
  RubricRules rules;
  rules.parse = TestParse;
  rules.yaml = TestYaml;
  rules.sha256 = [](const Rubric& rubric) {
    return Sha256Hex(TestYaml(rubric));
  };
  rules.validate = [](const Rubric& rubric) {
    std::vector<std::string> problems;
    if (rubric.criteria.empty()) problems.emplace_back("no criteria");
    return problems;
  };
  return rules;
}

// An engine over a ledger in a temporary directory, driven by hand: no thread,
// a clock that stands still, a member "actor".
class TestRun {
 public:
  TestRun() {
    static int count = 0;
    directory = std::filesystem::temp_directory_path() /
                absl::StrCat("mpo_orchestrator_", getpid(), "_", ++count);
    std::filesystem::remove_all(directory);
    std::filesystem::create_directories(directory);
    PlanOptions& plan = options.plan;
    plan.run = std::string("r");
    plan.seed = 5;
    plan.total_steps = 4;
    plan.prompts_per_step = 2;
    plan.group_size = 2;
    plan.unit_size = 2;
    plan.sampling.max_new_tokens = 9;
    for (const char* id : {"a", "b", "c", "d"}) {
      Prompt prompt;
      prompt.id = id;
      plan.training.push_back(prompt);
    }
    options.config_sha256 = std::string("config");
    options.task = std::string("essay");
    options.directory = directory;
    options.evidence = 4;
    initial = *TestParse("essay:one,two");
  }
  ~TestRun() {
    engine.reset();
    ledger.reset();
    std::filesystem::remove_all(directory);
  }

  std::filesystem::path path() const { return directory / "ledger.sqlite"; }

  // Starts a process over the ledger, as after a kill of the one before.
  void Open() {
    engine.reset();
    ledger.reset();
    RunRecord run;
    run.name = options.plan.run;
    run.seed = options.plan.seed;
    run.total_steps = options.plan.total_steps;
    run.config_sha256 = options.config_sha256;
    RubricRecord rubric;
    rubric.sha256 = TestRules().sha256(initial);
    rubric.yaml = TestYaml(initial);
    auto opened = Ledger::Open(path(), run, rubric, clock.Wall());
    INFO(opened.status());
    REQUIRE(opened.ok());
    ledger = *std::move(opened);
    auto created = OrchestratorEngine::Create(
        options,
        {.ledger = *ledger,
         .clock = clock,
         .metrics = metrics,
         .refine =
             [this](const RefinementRequest& request, std::stop_token stop) {
               requests.push_back(request);
               if (while_asked) while_asked(stop);
               return answer;
             },
         .gold = [](const Prompt&, const std::string&,
                    const BaseStatistics& base) -> std::optional<double> {
           return base.subject_gain;
         },
         .rubrics = TestRules()});
    INFO(created.status());
    REQUIRE(created.ok());
    engine = *std::move(created);
    Join("actor", "1");
    engine->Tick();
  }

  std::string Join(const std::string& name, const std::string& incarnation) {
    auto joined = engine->Register({.id = {},
                                    .role = "rollout_actor",
                                    .name = name,
                                    .incarnation = incarnation,
                                    .address = {}},
                                   "config");
    INFO(joined.status());
    REQUIRE(joined.ok());
    return joined->member_id;
  }

  // The answer of LeaseWork without waiting.
  absl::StatusOr<LeaseReply> Lease(const std::string& member = "actor#1") {
    absl::StatusOr<LeaseReply> reply = absl::UnknownError("not answered");
    engine->LeaseWork(
        member, absl::ZeroDuration(),
        [&reply](absl::StatusOr<LeaseReply> one) { reply = one; });
    engine->Tick();
    return reply;
  }
  WorkUnit LeasedUnit(const std::string& member = "actor#1") {
    auto reply = Lease(member);
    INFO(reply.status());
    REQUIRE(reply.ok());
    REQUIRE(reply->unit.has_value());
    return *reply->unit;
  }

  static Completion CompletionOf(const WorkUnit& unit,
                                 const std::string& member = "actor#1",
                                 bool scored = true) {
    Completion completion;
    completion.member_id = member;
    completion.unit_id = unit.id;
    completion.lease_epoch = unit.lease_epoch;
    completion.generation_seconds = 2;
    completion.judging_seconds = 1;
    for (const Sample& sample : unit.samples) {
      Outcome outcome;
      outcome.sample_key = sample.key;
      outcome.text = absl::StrCat("text ", sample.prompt.id);
      outcome.response_tokens = 10;
      outcome.policy_version = unit.min_policy_version;
      outcome.base = BaseStatistics{-1, 2, 6.5};
      Verdict verdict;
      verdict.scored = scored;
      verdict.rubric_sha256 = unit.rubric_sha256;
      if (scored) verdict.raw = 4, verdict.maximum = 10, verdict.reward = 0.4;
      outcome.verdict = verdict;
      if (!unit.monitor_rubric_sha256.empty()) {
        outcome.monitor = verdict;
        outcome.monitor->rubric_sha256 = unit.monitor_rubric_sha256;
        outcome.monitor->raw = 2;
      }
      completion.outcomes.push_back(outcome);
    }
    return completion;
  }

  absl::StatusOr<BatchReply> Batch(int64_t step) {
    absl::StatusOr<BatchReply> reply = absl::UnknownError("not answered");
    engine->AssignBatch(
        step, absl::ZeroDuration(),
        [&reply](absl::StatusOr<BatchReply> one) { reply = one; });
    engine->Tick();
    return reply;
  }
  static StepCommit CommitOf(int64_t step) {
    return {.step = step,
            .weights_sha256 = Sha256Hex(absl::StrCat("weights ", step)),
            .metrics = {{"kl", 0.1}},
            .seconds = {{"forward", 1.5}}};
  }

  // Completes every unit that can be leased now.
  void GenerateAll(bool scored = true) {
    while (true) {
      auto reply = Lease();
      INFO(reply.status());
      REQUIRE(reply.ok());
      if (!reply->unit.has_value()) return;
      auto recorded =
          engine->CompleteWork(CompletionOf(*reply->unit, "actor#1", scored));
      INFO(recorded.status());
      REQUIRE(recorded.ok());
      engine->Tick();
    }
  }
  void RunStep(int64_t step) {
    GenerateAll();
    auto batch = Batch(step);
    INFO(batch.status());
    REQUIRE(batch.ok());
    REQUIRE(batch->batch.has_value());
    auto committed = engine->CommitStep(CommitOf(step));
    INFO(committed.status());
    REQUIRE(committed.ok());
    engine->Tick();
  }

  RunStatus Status() {
    RunStatus status;
    const uint64_t id =
        engine->Subscribe([&status](const std::optional<RunStatus>& one) {
          if (one) status = *one;
        });
    engine->Tick();
    engine->Unsubscribe(id);
    return status;
  }

  AuditReport Audit() const {
    auto report = AuditLedger(path(), [](const std::string& yaml) {
      return absl::StatusOr<std::string>(Sha256Hex(yaml));
    });
    INFO(report.status());
    REQUIRE(report.ok());
    return *std::move(report);
  }

  // A proposal that adds `criterion`.
  RefinementProposal Adding(const std::string& criterion) const {
    RefinementProposal proposal;
    proposal.rubric =
        *TestParse(absl::StrCat(TestYaml(initial), ",", criterion));
    proposal.changes = {{"add", criterion, "it was gamed"}};
    proposal.memory = absl::StrCat("after ", criterion);
    return proposal;
  }

  std::filesystem::path directory;
  EngineOptions options;
  Rubric initial;
  FakeClock clock;
  prometheus::Registry registry;
  OrchestratorMetrics metrics{registry};
  std::unique_ptr<Ledger> ledger;
  std::vector<RefinementRequest> requests;
  std::function<void(std::stop_token)> while_asked;
  absl::StatusOr<RefinementProposal> answer = absl::UnavailableError("down");
  std::unique_ptr<OrchestratorEngine> engine;
};

}  // namespace mpo::orchestrator
