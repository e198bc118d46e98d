// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/store/database.h"
#include "mpo/types/rollout.h"
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

// The durable state of one run. Every mutating call is one transaction that is
// on disk when the call returns, and idempotent by the key it names: repeating
// it changes nothing. Not thread-safe: guard it with its owner's mutex.
//
// Besides what each call lists, all of them give the codes of
// store::Database: RESOURCE_EXHAUSTED (disk full), DATA_LOSS (corrupt),
// UNAVAILABLE (locked).
class Ledger {
 public:
  // Opens or creates the ledger of `run`; `initial` is its first rubric.
  // FAILED_PRECONDITION: the ledger is of another run, seed, configuration or
  // data; the message names both.
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(
      const std::filesystem::path& path, const RunRecord& run,
      const RubricRecord& initial, absl::Time now);
  // For reports and audits beside a running orchestrator. NOT_FOUND: no file.
  static absl::StatusOr<std::unique_ptr<Ledger>> OpenReadOnly(
      const std::filesystem::path& path);

  absl::StatusOr<RunRecord> Run();
  absl::StatusOr<Progress> ReadProgress();
  // Also keeps the event. Resuming forgets the failures of open units.
  absl::Status SetPaused(const std::string& reason, absl::Time now);
  absl::Status Resume(const std::vector<int64_t>& waived_steps, absl::Time now);
  absl::Status Stop(int64_t last_step, absl::Time now);
  absl::Status AddEvent(const std::string& kind, const std::string& detail,
                        absl::Time now);
  absl::StatusOr<std::vector<EventRecord>> Events(int64_t after);

  // Replaces the member of the same name.
  absl::Status PutMember(const MemberRecord& member);
  absl::StatusOr<std::vector<MemberRecord>> Members();

  // Plans a training step with the active rubric. Idempotent by step.
  absl::Status PlanStep(int64_t step, const std::vector<WorkUnit>& units,
                        bool monitor, absl::Time now);
  // Plans the evaluation of policy version `step`, judged with the initial
  // rubric. Idempotent by step.
  absl::Status PlanEvaluation(int64_t step, const std::vector<WorkUnit>& units,
                              absl::Time now);

  // Units that are not complete and belong to the run (not to steps dropped by
  // Stop), training before evaluation, in plan order.
  absl::StatusOr<std::vector<UnitRecord>> OpenUnits();
  // NOT_FOUND: no such unit.
  absl::StatusOr<UnitRecord> FindUnit(const std::string& id);
  // The unit as leased, without sampling options. NOT_FOUND: no such unit.
  absl::StatusOr<WorkUnit> ReadUnit(const std::string& id);
  // Grants the unit under a new epoch, larger than any before. NOT_FOUND.
  absl::StatusOr<int64_t> GrantUnit(const std::string& id,
                                    const std::string& member_id,
                                    absl::Time now);
  // Makes a leased unit ready again, if `epoch` is still its lease, and counts
  // a failure if it `failed`; returns its failures so far.
  absl::StatusOr<int64_t> ReleaseUnit(const std::string& id, int64_t epoch,
                                      const std::string& detail, bool failed,
                                      absl::Time now);
  // Member the epoch of that unit was granted to; nullopt: never granted.
  absl::StatusOr<std::optional<std::string>> GrantedTo(const std::string& unit,
                                                       int64_t epoch);

  struct Recorded {
    int64_t recorded = 0;
    int64_t duplicates = 0;
  };
  // Stores the outcomes that are not there yet and completes the unit.
  absl::StatusOr<Recorded> RecordOutcomes(
      const std::string& unit_id, int64_t epoch,
      const std::vector<MeasuredOutcome>& outcomes, double generation_seconds,
      double judging_seconds);

  // In plan order. Empty for a step that was not planned.
  absl::StatusOr<std::vector<SampleRecord>> Samples(WorkKind kind,
                                                    int64_t step);
  absl::StatusOr<std::vector<UnitRecord>> Units(WorkKind kind, int64_t step);
  // Assigns all samples of a complete step to it; returns their keys in plan
  // order, the same ones whenever it is called again. FAILED_PRECONDITION: a
  // sample is not complete.
  absl::StatusOr<std::vector<std::string>> AssignStep(int64_t step,
                                                      absl::Time now);
  // Commits an assigned step and, where `refinement_id` is not empty, opens
  // that refinement in the same transaction.
  absl::Status CommitStep(const StepRecord& step,
                          const std::string& refinement_id, absl::Time now);
  // NOT_FOUND: not planned.
  absl::StatusOr<StepRecord> FindStep(int64_t step);
  absl::StatusOr<std::vector<StepRecord>> Steps(int64_t after);
  // Completes an evaluation and adds its means to the step's metrics.
  absl::Status FinishEvaluation(int64_t step,
                                const std::map<std::string, double>& metrics);
  // Evaluations with their means; empty means: not complete.
  absl::StatusOr<std::map<int64_t, std::map<std::string, double>>>
  Evaluations();

  absl::StatusOr<std::vector<RubricRecord>> Rubrics();
  // NOT_FOUND.
  absl::StatusOr<RubricRecord> FindRubric(const std::string& sha256);
  absl::StatusOr<RubricRecord> FindRubric(int64_t version);
  // Stores a draft or rejected rubric; a known digest is left as it is.
  absl::Status AddRubric(const RubricRecord& rubric, absl::Time now);
  // The next planned step is judged with it; the one before is retired.
  // FAILED_PRECONDITION: it was rejected. NOT_FOUND.
  absl::Status ActivateRubric(const std::string& sha256, absl::Time now);

  absl::StatusOr<std::vector<RefinementRecord>> Refinements();
  absl::Status CountRefinementAttempt(const std::string& id);
  // Ends an open refinement. `rubric`, where given, is stored; it becomes
  // active if the refinement was accepted. False, and nothing has changed, when
  // it had ended before.
  absl::StatusOr<bool> EndRefinement(const RefinementRecord& refinement,
                                     const std::optional<RubricRecord>& rubric,
                                     absl::Time now);

  // For audits: the database itself.
  store::Database& database() { return *database_; }

 private:
  explicit Ledger(std::unique_ptr<store::Database> database)
      : database_(std::move(database)) {}

  absl::Status Create(const RunRecord& run, const RubricRecord& initial,
                      absl::Time now);
  absl::Status Event(const std::string& kind, const std::string& detail,
                     absl::Time now);
  absl::Status InsertUnits(const std::vector<WorkUnit>& units,
                           const std::string& rubric,
                           const std::string& monitor);
  absl::StatusOr<std::vector<UnitRecord>> SelectUnits(const char* sql);
  absl::Status InsertRubric(const RubricRecord& rubric, absl::Time now);
  absl::Status SetActive(const std::string& sha256, absl::Time now);
  absl::StatusOr<std::vector<RubricRecord>> SelectRubrics(
      const char* sql, const store::Value& key);

  const std::unique_ptr<store::Database> database_;
};

}  // namespace mpo::orchestrator
