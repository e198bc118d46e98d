// SPDX-License-Identifier: Apache-2.0
// Units, leases, outcomes, steps and batches of the ledger.
#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "services/orchestrator/ledger.h"
#include "services/orchestrator/ledger_rows.h"
#include "services/orchestrator/plan.h"
#include "services/orchestrator/record_json.h"

namespace mpo::orchestrator {

using store::Row;
using store::Transaction;

namespace {

#define MPO_UNIT_COLUMNS                                          \
  "id, kind, step, state, grants, failures, lease_epoch, member," \
  " generation_seconds, judging_seconds"

UnitRecord ReadUnitRow(const Row& row) {
  return {.id = row.Text(0),
          .kind = KindFrom(row.Text(1)),
          .step = row.Int(2),
          .state = UnitStateFrom(row.Text(3)),
          .grants = row.Int(4),
          .failures = row.Int(5),
          .lease_epoch = row.Int(6),
          .member_id = row.Text(7),
          .generation_seconds = row.Real(8),
          .judging_seconds = row.Real(9)};
}

#define MPO_STEP_COLUMNS                                            \
  "s.step, s.state, s.rubric_sha256, r.version, s.waived,"          \
  " s.weights_sha256, s.metrics, s.seconds, s.planned, s.committed" \
  " FROM steps s JOIN rubrics r ON r.sha256 = s.rubric_sha256"

absl::StatusOr<StepRecord> ReadStepRow(const Row& row) {
  StepRecord step;
  step.step = row.Int(0);
  step.state = StepStateFrom(row.Text(1));
  step.rubric_sha256 = row.Text(2);
  step.rubric_version = row.Int(3);
  step.waived = row.Bool(4);
  step.weights_sha256 = row.Text(5);
  MPO_ASSIGN_OR_RETURN(step.metrics, ValuesFromJson(row.Text(6)));
  MPO_ASSIGN_OR_RETURN(step.seconds, ValuesFromJson(row.Text(7)));
  step.planned = absl::FromUnixMillis(row.Int(8));
  step.committed = absl::FromUnixMillis(row.Int(9));
  return step;
}

#define MPO_SAMPLE_COLUMNS                                                   \
  "s.key, s.kind, s.step, s.replica, s.seed, p.prompt, s.unit, u.state,"     \
  " u.grants, s.complete, s.text, s.response_tokens, s.finish_reason,"       \
  " s.policy_version, s.verdict, s.monitor, s.base, s.gold, s.proxy, b.step" \
  " FROM samples s JOIN prompts p ON p.id = s.prompt"                        \
  " JOIN units u ON u.id = s.unit LEFT JOIN batches b ON b.sample = s.key"

absl::StatusOr<SampleRecord> ReadSampleRow(const Row& row) {
  SampleRecord record;
  record.sample.key = row.Text(0);
  record.kind = KindFrom(row.Text(1));
  record.sample.step = row.Int(2);
  record.sample.replica = static_cast<int>(row.Int(3));
  record.sample.seed = row.Unsigned(4);
  MPO_ASSIGN_OR_RETURN(record.sample.prompt, PromptFromJson(row.Text(5)));
  record.unit_id = row.Text(6);
  record.unit_state = UnitStateFrom(row.Text(7));
  record.attempts = row.Int(8);
  record.used_in_step = row.OptionalInt(19);
  if (!row.Bool(9)) return record;
  MeasuredOutcome result;
  result.outcome.sample_key = record.sample.key;
  result.outcome.text = row.Text(10);
  result.outcome.response_tokens = row.Int(11);
  result.outcome.finish_reason = FinishReasonFrom(row.Text(12));
  result.outcome.policy_version = row.Int(13);
  MPO_ASSIGN_OR_RETURN(result.outcome.verdict, VerdictFromJson(row.Text(14)));
  if (!row.IsNull(15)) {
    MPO_ASSIGN_OR_RETURN(result.outcome.monitor, VerdictFromJson(row.Text(15)));
  }
  if (!row.IsNull(16)) {
    MPO_ASSIGN_OR_RETURN(result.outcome.base, BaseFromJson(row.Text(16)));
  }
  result.gold = row.OptionalReal(17);
  result.proxy = row.OptionalReal(18);
  record.result = std::move(result);
  return record;
}

// Collects rows that may fail to parse; the first failure wins.
template <typename T>
auto Collect(std::vector<T>& into, absl::Status& status,
             absl::StatusOr<T> (*read)(const Row&)) {
  return [&into, &status, read](const Row& row) {
    if (!status.ok()) return;
    absl::StatusOr<T> one = read(row);
    if (one.ok()) {
      into.push_back(*std::move(one));
    } else {
      status = one.status();
    }
  };
}

}  // namespace

absl::StatusOr<std::vector<UnitRecord>> Ledger::OpenUnits() {
  std::vector<UnitRecord> units;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT " MPO_UNIT_COLUMNS
      " FROM units WHERE state <> 'complete' AND"
      " (kind = 'eval' OR step <= (SELECT last_step FROM run))"
      " ORDER BY kind = 'eval', step, position",
      [&units](const Row& row) { units.push_back(ReadUnitRow(row)); }));
  return units;
}

absl::StatusOr<std::vector<UnitRecord>> Ledger::Units(WorkKind kind,
                                                      int64_t step) {
  std::vector<UnitRecord> units;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT " MPO_UNIT_COLUMNS
      " FROM units WHERE kind = ? AND step = ? ORDER BY position",
      [&units](const Row& row) { units.push_back(ReadUnitRow(row)); },
      Name(kind), step));
  return units;
}

absl::StatusOr<UnitRecord> Ledger::FindUnit(const std::string& id) {
  std::optional<UnitRecord> unit;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT " MPO_UNIT_COLUMNS " FROM units WHERE id = ?",
      [&unit](const Row& row) { unit = ReadUnitRow(row); }, id));
  if (!unit.has_value()) {
    return absl::NotFoundError(absl::StrCat("no unit ", id, " in the plan"));
  }
  return *std::move(unit);
}

absl::StatusOr<WorkUnit> Ledger::ReadUnit(const std::string& id) {
  WorkUnit unit;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT id, lease_epoch, kind, step, min_policy_version, rubric_sha256,"
      " monitor_sha256 FROM units WHERE id = ?",
      [&unit](const Row& row) {
        unit.id = row.Text(0);
        unit.lease_epoch = row.Int(1);
        unit.kind = KindFrom(row.Text(2));
        unit.step = row.Int(3);
        unit.min_policy_version = row.Int(4);
        unit.rubric_sha256 = row.Text(5);
        unit.monitor_rubric_sha256 = row.Text(6);
      },
      id));
  if (unit.id.empty()) {
    return absl::NotFoundError(absl::StrCat("no unit ", id, " in the plan"));
  }
  std::vector<SampleRecord> samples;
  absl::Status status;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT " MPO_SAMPLE_COLUMNS " WHERE s.unit = ? ORDER BY s.position",
      Collect(samples, status, ReadSampleRow), id));
  MPO_RETURN_IF_ERROR(status);
  for (SampleRecord& record : samples) {
    unit.samples.push_back(std::move(record.sample));
  }
  return unit;
}

absl::StatusOr<int64_t> Ledger::GrantUnit(const std::string& id,
                                          const std::string& member_id,
                                          absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_RETURN_IF_ERROR(
      database_->Run("UPDATE run SET lease_epoch = lease_epoch + 1").status());
  MPO_ASSIGN_OR_RETURN(const std::optional<int64_t> epoch,
                       database_->QueryInt("SELECT lease_epoch FROM run"));
  MPO_ASSIGN_OR_RETURN(
      const int64_t changed,
      database_->Run("UPDATE units SET state = 'leased', grants = grants + 1,"
                     " lease_epoch = ?, member = ?"
                     " WHERE id = ? AND state = 'ready'",
                     epoch, member_id, id));
  if (changed == 0) {
    return absl::NotFoundError(absl::StrCat("no ready unit ", id));
  }
  MPO_RETURN_IF_ERROR(
      database_
          ->Run("INSERT INTO grants(epoch, unit, member, granted)"
                " VALUES(?, ?, ?, ?)",
                epoch, id, member_id, absl::ToUnixMillis(now))
          .status());
  MPO_RETURN_IF_ERROR(transaction.Commit());
  return epoch.value_or(0);
}

absl::StatusOr<int64_t> Ledger::ReleaseUnit(const std::string& id,
                                            int64_t epoch,
                                            const std::string& detail,
                                            bool failed, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t changed,
      database_->Run("UPDATE units SET state = 'ready', failures = failures + ?"
                     " WHERE id = ? AND state = 'leased' AND lease_epoch = ?",
                     int64_t{failed}, id, epoch));
  if (changed > 0) {
    MPO_RETURN_IF_ERROR(
        Event("unit released", absl::StrCat(id, ": ", detail), now));
  }
  MPO_ASSIGN_OR_RETURN(
      const std::optional<int64_t> failures,
      database_->QueryInt("SELECT failures FROM units WHERE id = ?", id));
  MPO_RETURN_IF_ERROR(transaction.Commit());
  return failures.value_or(0);
}

absl::StatusOr<std::optional<std::string>> Ledger::GrantedTo(
    const std::string& unit, int64_t epoch) {
  std::optional<std::string> member;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT member FROM grants WHERE epoch = ? AND unit = ?",
      [&member](const Row& row) { member = row.Text(0); }, epoch, unit));
  return member;
}

absl::StatusOr<Ledger::Recorded> Ledger::RecordOutcomes(
    const std::string& unit_id, int64_t epoch,
    const std::vector<MeasuredOutcome>& outcomes, double generation_seconds,
    double judging_seconds) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  Recorded count;
  for (const MeasuredOutcome& measured : outcomes) {
    const Outcome& outcome = measured.outcome;
    std::optional<std::string> monitor;
    if (outcome.monitor) monitor = ToJson(*outcome.monitor);
    std::optional<std::string> base;
    if (outcome.base) base = ToJson(*outcome.base);
    MPO_ASSIGN_OR_RETURN(
        const int64_t changed,
        database_->Run(
            "UPDATE samples SET complete = 1, epoch = ?, text = ?,"
            " response_tokens = ?, finish_reason = ?, policy_version = ?,"
            " verdict = ?, monitor = ?, base = ?, gold = ?, proxy = ?"
            " WHERE key = ? AND unit = ? AND complete = 0",
            epoch, outcome.text, outcome.response_tokens,
            Name(outcome.finish_reason), outcome.policy_version,
            ToJson(outcome.verdict), monitor, base, measured.gold,
            measured.proxy, outcome.sample_key, unit_id));
    (changed > 0 ? count.recorded : count.duplicates) += 1;
  }
  MPO_RETURN_IF_ERROR(
      database_
          ->Run("UPDATE units SET state = 'complete', generation_seconds = ?2,"
                " judging_seconds = ?3 WHERE id = ?1 AND state <> 'complete'"
                " AND NOT EXISTS (SELECT 1 FROM samples"
                "   WHERE unit = ?1 AND complete = 0)",
                unit_id, generation_seconds, judging_seconds)
          .status());
  MPO_RETURN_IF_ERROR(transaction.Commit());
  return count;
}

absl::StatusOr<std::vector<SampleRecord>> Ledger::Samples(WorkKind kind,
                                                          int64_t step) {
  std::vector<SampleRecord> samples;
  absl::Status status;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT " MPO_SAMPLE_COLUMNS
      " WHERE s.kind = ? AND s.step = ? ORDER BY s.position",
      Collect(samples, status, ReadSampleRow), Name(kind), step));
  MPO_RETURN_IF_ERROR(status);
  return samples;
}

absl::StatusOr<std::vector<std::string>> Ledger::AssignStep(int64_t step,
                                                            absl::Time now) {
  MPO_ASSIGN_OR_RETURN(const StepRecord record, FindStep(step));
  if (record.state == StepState::kPlanned) {
    MPO_ASSIGN_OR_RETURN(
        const std::optional<int64_t> missing,
        database_->QueryInt("SELECT count(*) FROM samples WHERE kind = 'train'"
                            " AND step = ? AND complete = 0",
                            step));
    if (missing.value_or(0) > 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "step ", step, ": ", *missing, " samples are not complete"));
    }
    MPO_ASSIGN_OR_RETURN(Transaction transaction,
                         Transaction::Begin(*database_));
    MPO_RETURN_IF_ERROR(database_
                            ->Run("INSERT INTO batches(sample, step, position)"
                                  " SELECT key, step, position FROM samples"
                                  " WHERE kind = 'train' AND step = ?",
                                  step)
                            .status());
    MPO_RETURN_IF_ERROR(
        database_
            ->Run("UPDATE steps SET state = 'assigned' WHERE step = ?", step)
            .status());
    MPO_RETURN_IF_ERROR(Event("assigned", absl::StrCat("step ", step), now));
    MPO_RETURN_IF_ERROR(transaction.Commit());
  }
  std::vector<std::string> keys;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT sample FROM batches WHERE step = ? ORDER BY position",
      [&keys](const Row& row) { keys.push_back(row.Text(0)); }, step));
  return keys;
}

absl::Status Ledger::CommitStep(const StepRecord& step,
                                const std::string& refinement_id,
                                absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t changed,
      database_->Run("UPDATE steps SET state = 'committed', weights_sha256 = ?,"
                     " metrics = ?, seconds = ?, committed = ?"
                     " WHERE step = ? AND state = 'assigned'",
                     step.weights_sha256, ToJson(step.metrics),
                     ToJson(step.seconds), absl::ToUnixMillis(now), step.step));
  if (changed > 0 && !refinement_id.empty()) {
    MPO_RETURN_IF_ERROR(
        database_
            ->Run("INSERT INTO refinements(id, step, state, base, created)"
                  " SELECT ?, ?, 'open', active_rubric, ? FROM run",
                  refinement_id, step.step, absl::ToUnixMillis(now))
            .status());
  }
  return transaction.Commit();
}

absl::StatusOr<StepRecord> Ledger::FindStep(int64_t step) {
  std::vector<StepRecord> steps;
  absl::Status status;
  MPO_RETURN_IF_ERROR(
      database_->Query("SELECT " MPO_STEP_COLUMNS " WHERE s.step = ?",
                       Collect(steps, status, ReadStepRow), step));
  MPO_RETURN_IF_ERROR(status);
  if (steps.empty()) {
    return absl::NotFoundError(absl::StrCat("step ", step, " is not planned"));
  }
  return std::move(steps.front());
}

absl::StatusOr<std::vector<StepRecord>> Ledger::Steps(int64_t after) {
  std::vector<StepRecord> steps;
  absl::Status status;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT " MPO_STEP_COLUMNS " WHERE s.step > ? ORDER BY s.step",
      Collect(steps, status, ReadStepRow), after));
  MPO_RETURN_IF_ERROR(status);
  return steps;
}

absl::Status Ledger::FinishEvaluation(
    int64_t step, const std::map<std::string, double>& metrics) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t changed,
      database_->Run("UPDATE evaluations SET complete = 1, metrics = ?"
                     " WHERE step = ? AND complete = 0",
                     ToJson(metrics), step));
  if (changed > 0 && step > 0) {
    MPO_RETURN_IF_ERROR(
        database_
            ->Run("UPDATE steps SET metrics = json_patch(metrics, ?)"
                  " WHERE step = ?",
                  ToJson(metrics), step)
            .status());
  }
  return transaction.Commit();
}

absl::StatusOr<std::map<int64_t, std::map<std::string, double>>>
Ledger::Evaluations() {
  std::map<int64_t, std::map<std::string, double>> evaluations;
  absl::Status status;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT step, metrics FROM evaluations", [&](const Row& row) {
        auto metrics = ValuesFromJson(row.Text(1));
        if (!metrics.ok()) status = metrics.status();
        if (metrics.ok()) evaluations[row.Int(0)] = *std::move(metrics);
      }));
  MPO_RETURN_IF_ERROR(status);
  return evaluations;
}

}  // namespace mpo::orchestrator
