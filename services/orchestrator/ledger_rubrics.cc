// SPDX-License-Identifier: Apache-2.0
// Rubric store and refinements of the ledger.
#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "services/orchestrator/ledger.h"
#include "services/orchestrator/ledger_rows.h"
#include "services/orchestrator/record_json.h"

namespace mpo::orchestrator {

using store::Row;
using store::Transaction;

namespace {

#define MPO_RUBRIC_SELECT                                               \
  "SELECT sha256, version, parent, state, origin, reasons, first_step," \
  " yaml FROM rubrics "

absl::StatusOr<RubricRecord> ReadRubricRow(const Row& row) {
  RubricRecord rubric;
  rubric.sha256 = row.Text(0);
  rubric.version = row.OptionalInt(1);
  rubric.parent = row.Text(2);
  rubric.state = RubricStateFrom(row.Text(3));
  rubric.origin = row.Text(4);
  MPO_ASSIGN_OR_RETURN(rubric.reasons, LinesFromJson(row.Text(5)));
  rubric.first_step = row.Int(6);
  rubric.yaml = row.Text(7);
  return rubric;
}

absl::StatusOr<RefinementRecord> ReadRefinementRow(const Row& row) {
  RefinementRecord record;
  record.id = row.Text(0);
  record.step = row.Int(1);
  record.state = RefinementStateFrom(row.Text(2));
  record.base_rubric = row.Text(3);
  record.result_rubric = row.Text(4);
  MPO_ASSIGN_OR_RETURN(record.changes, ChangesFromJson(row.Text(5)));
  MPO_ASSIGN_OR_RETURN(record.analyses, LinesFromJson(row.Text(6)));
  record.memory = row.Text(7);
  MPO_ASSIGN_OR_RETURN(record.reasons, LinesFromJson(row.Text(8)));
  record.attempts = row.Int(9);
  return record;
}

}  // namespace

absl::StatusOr<std::vector<RubricRecord>> Ledger::SelectRubrics(
    const char* sql, const store::Value& key) {
  std::vector<RubricRecord> rubrics;
  absl::Status status;
  MPO_RETURN_IF_ERROR(database_->Query(
      sql,
      [&](const Row& row) {
        absl::StatusOr<RubricRecord> rubric = ReadRubricRow(row);
        if (!rubric.ok()) status = rubric.status();
        if (rubric.ok()) rubrics.push_back(*std::move(rubric));
      },
      key));
  MPO_RETURN_IF_ERROR(status);
  return rubrics;
}

absl::StatusOr<std::vector<RubricRecord>> Ledger::Rubrics() {
  return SelectRubrics(
      MPO_RUBRIC_SELECT
      "WHERE ?1 IS NULL ORDER BY version IS NULL, version, created, sha256",
      std::nullopt);
}

absl::StatusOr<RubricRecord> Ledger::FindRubric(const std::string& sha256) {
  MPO_ASSIGN_OR_RETURN(
      std::vector<RubricRecord> found,
      SelectRubrics(MPO_RUBRIC_SELECT "WHERE sha256 = ?", sha256));
  if (found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no rubric with sha256 ", sha256, " in this run"));
  }
  return std::move(found.front());
}

absl::StatusOr<RubricRecord> Ledger::FindRubric(int64_t version) {
  MPO_ASSIGN_OR_RETURN(
      std::vector<RubricRecord> found,
      SelectRubrics(MPO_RUBRIC_SELECT "WHERE version = ?", version));
  if (found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no rubric of version ", version, " in this run"));
  }
  return std::move(found.front());
}

absl::Status Ledger::InsertRubric(const RubricRecord& rubric, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(
      const std::optional<int64_t> known,
      database_->QueryInt("SELECT 1 FROM rubrics WHERE sha256 = ?",
                          rubric.sha256));
  if (known.has_value()) return absl::OkStatus();
  std::optional<int64_t> version;
  if (rubric.state != RubricState::kRejected) {
    MPO_ASSIGN_OR_RETURN(
        version, database_->QueryInt("SELECT ifnull(max(version), -1) + 1"
                                     " FROM rubrics"));
  }
  std::optional<std::string> parent;
  if (!rubric.parent.empty()) parent = rubric.parent;
  MPO_RETURN_IF_ERROR(
      database_
          ->Run("INSERT INTO rubrics(sha256, version, parent, state, origin,"
                " reasons, yaml, created) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                rubric.sha256, version, parent, Name(rubric.state),
                rubric.origin, ToJson(rubric.reasons), rubric.yaml,
                absl::ToUnixMillis(now))
          .status());
  return Event(absl::StrCat("rubric stored as ", Name(rubric.state)),
               absl::StrCat(rubric.sha256, " by ", rubric.origin), now);
}

absl::Status Ledger::AddRubric(const RubricRecord& rubric, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_RETURN_IF_ERROR(InsertRubric(rubric, now));
  return transaction.Commit();
}

absl::Status Ledger::SetActive(const std::string& sha256, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(const RubricRecord rubric, FindRubric(sha256));
  if (rubric.state == RubricState::kActive) return absl::OkStatus();
  if (rubric.state == RubricState::kRejected) {
    return absl::FailedPreconditionError(
        absl::StrCat("rubric ", sha256, " was rejected and cannot be active"));
  }
  MPO_RETURN_IF_ERROR(database_
                          ->Run("UPDATE rubrics SET state = 'retired'"
                                " WHERE state = 'active'")
                          .status());
  MPO_RETURN_IF_ERROR(
      database_
          ->Run("UPDATE rubrics SET state = 'active' WHERE sha256 = ?", sha256)
          .status());
  MPO_RETURN_IF_ERROR(
      database_->Run("UPDATE run SET active_rubric = ?", sha256).status());
  return Event(
      "rubric activated",
      absl::StrCat("version ", rubric.version.value_or(-1), " ", sha256), now);
}

absl::Status Ledger::ActivateRubric(const std::string& sha256, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_RETURN_IF_ERROR(SetActive(sha256, now));
  return transaction.Commit();
}

absl::StatusOr<std::vector<RefinementRecord>> Ledger::Refinements() {
  std::vector<RefinementRecord> records;
  absl::Status status;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT id, step, state, base, result, changes, analyses, memory,"
      " reasons, attempts FROM refinements ORDER BY step",
      [&](const Row& row) {
        absl::StatusOr<RefinementRecord> record = ReadRefinementRow(row);
        if (!record.ok()) status = record.status();
        if (record.ok()) records.push_back(*std::move(record));
      }));
  MPO_RETURN_IF_ERROR(status);
  return records;
}

absl::Status Ledger::CountRefinementAttempt(const std::string& id) {
  return database_
      ->Run(
          "UPDATE refinements SET attempts = attempts + 1"
          " WHERE id = ? AND state = 'open'",
          id)
      .status();
}

absl::StatusOr<bool> Ledger::EndRefinement(
    const RefinementRecord& refinement,
    const std::optional<RubricRecord>& rubric, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t changed,
      database_->Run("UPDATE refinements SET state = ?, result = ?,"
                     " changes = ?, analyses = ?, memory = ?, reasons = ?,"
                     " ended = ? WHERE id = ? AND state = 'open'",
                     Name(refinement.state), refinement.result_rubric,
                     ToJson(refinement.changes), ToJson(refinement.analyses),
                     refinement.memory, ToJson(refinement.reasons),
                     absl::ToUnixMillis(now), refinement.id));
  if (changed == 0) return false;
  if (rubric.has_value()) MPO_RETURN_IF_ERROR(InsertRubric(*rubric, now));
  if (refinement.state == RefinementState::kAccepted) {
    MPO_RETURN_IF_ERROR(SetActive(refinement.result_rubric, now));
  }
  MPO_RETURN_IF_ERROR(Event(absl::StrCat("refinement ", Name(refinement.state)),
                            refinement.id, now));
  MPO_RETURN_IF_ERROR(transaction.Commit());
  return true;
}

}  // namespace mpo::orchestrator
