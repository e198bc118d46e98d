// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/ledger.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "services/orchestrator/ledger_rows.h"
#include "services/orchestrator/ledger_schema.h"
#include "services/orchestrator/plan.h"
#include "services/orchestrator/record_json.h"

namespace mpo::orchestrator {

using store::Row;
using store::Transaction;

namespace {

absl::Status CheckIdentity(const std::filesystem::path& path,
                           const RunRecord& found, const RunRecord& wanted) {
  const auto differs = [&path](const char* what, const std::string& was,
                               const std::string& is) {
    return absl::FailedPreconditionError(
        absl::StrCat(path.string(), " holds a run with another ", what,
                     ": expected ", is, ", found ", was,
                     "; give the run another run.dir or restore its ", what));
  };
  if (found.config_sha256 != wanted.config_sha256) {
    return differs("config_sha256", found.config_sha256, wanted.config_sha256);
  }
  if (found.data_sha256 != wanted.data_sha256) {
    return differs("data_sha256 (prompt files)", found.data_sha256,
                   wanted.data_sha256);
  }
  if (found.name != wanted.name) {
    return differs("name", found.name, wanted.name);
  }
  if (found.seed != wanted.seed || found.total_steps != wanted.total_steps) {
    return differs("seed or number of steps",
                   absl::StrCat(found.seed, "/", found.total_steps),
                   absl::StrCat(wanted.seed, "/", wanted.total_steps));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(
    const std::filesystem::path& path, const RunRecord& run,
    const RubricRecord& initial, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(std::unique_ptr<store::Database> database,
                       store::Database::Open(path));
  MPO_RETURN_IF_ERROR(database->Migrate(LedgerMigrations()));
  std::unique_ptr<Ledger> ledger(new Ledger(std::move(database)));
  MPO_ASSIGN_OR_RETURN(const std::optional<int64_t> known,
                       ledger->database_->QueryInt("SELECT id FROM run"));
  if (known.has_value()) {
    MPO_ASSIGN_OR_RETURN(const RunRecord found, ledger->Run());
    MPO_RETURN_IF_ERROR(CheckIdentity(path, found, run));
    if (found.initial_rubric != initial.sha256) {
      return absl::FailedPreconditionError(
          absl::StrCat(path.string(), " began with another rubric: expected ",
                       initial.sha256, ", found ", found.initial_rubric));
    }
  } else {
    MPO_RETURN_IF_ERROR(ledger->Create(run, initial, now));
  }
  MPO_RETURN_IF_ERROR(
      ledger->database_->Run("UPDATE run SET starts = starts + 1").status());
  return ledger;
}

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::OpenReadOnly(
    const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(
        absl::StrCat("expected a ledger at ", path.string(), ", found none"));
  }
  MPO_ASSIGN_OR_RETURN(std::unique_ptr<store::Database> database,
                       store::Database::Open(path, {.read_only = true}));
  MPO_RETURN_IF_ERROR(database->Migrate(LedgerMigrations()));
  return std::unique_ptr<Ledger>(new Ledger(std::move(database)));
}

absl::Status Ledger::Create(const RunRecord& run, const RubricRecord& initial,
                            absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  RubricRecord first = initial;
  first.version = 0;
  first.parent.clear();
  first.state = RubricState::kActive;
  first.origin = "initial";
  MPO_RETURN_IF_ERROR(InsertRubric(first, now));
  MPO_RETURN_IF_ERROR(
      database_
          ->Run("INSERT INTO run(id, name, seed, total_steps, last_step,"
                " config_sha256, data_sha256, initial_rubric, active_rubric,"
                " created) VALUES(1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                run.name, run.seed, run.total_steps, run.total_steps,
                run.config_sha256, run.data_sha256, first.sha256, first.sha256,
                absl::ToUnixMillis(now))
          .status());
  MPO_RETURN_IF_ERROR(Event("created", run.name, now));
  return transaction.Commit();
}

absl::StatusOr<RunRecord> Ledger::Run() {
  std::optional<RunRecord> run;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT name, seed, total_steps, last_step, config_sha256, data_sha256,"
      " paused, reason, stopped, starts, lease_epoch, initial_rubric,"
      " active_rubric FROM run",
      [&run](const Row& row) {
        run = RunRecord{.name = row.Text(0),
                        .seed = row.Int(1),
                        .total_steps = row.Int(2),
                        .last_step = row.Int(3),
                        .config_sha256 = row.Text(4),
                        .data_sha256 = row.Text(5),
                        .paused = row.Bool(6),
                        .reason = row.Text(7),
                        .stopped = row.Bool(8),
                        .starts = row.Int(9),
                        .lease_epoch = row.Int(10),
                        .initial_rubric = row.Text(11),
                        .active_rubric = row.Text(12)};
      }));
  if (!run.has_value()) return absl::DataLossError("ledger: no run in it");
  return *run;
}

absl::StatusOr<Progress> Ledger::ReadProgress() {
  Progress progress;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT ifnull(max(step), 0),"
      " ifnull(max(step) FILTER (WHERE state <> 'planned'), 0),"
      " ifnull(max(step) FILTER (WHERE state = 'committed'), 0),"
      " (SELECT ifnull(max(step), -1) FROM evaluations),"
      " (SELECT count(*) FROM evaluations WHERE complete = 0),"
      " (SELECT min(step) FROM refinements WHERE state = 'open') FROM steps",
      [&progress](const Row& row) {
        progress.planned_step = row.Int(0);
        progress.assigned_step = row.Int(1);
        progress.committed_step = row.Int(2);
        progress.evaluated_step = row.Int(3);
        progress.open_evaluations = row.Int(4);
        progress.open_refinement = row.OptionalInt(5);
      }));
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT count(*), ifnull(sum(complete), 0) FROM samples"
      " WHERE kind = 'train' AND step = ?",
      [&progress](const Row& row) {
        progress.samples_planned = row.Int(0);
        progress.samples_done = row.Int(1);
      },
      progress.committed_step + 1));
  return progress;
}

absl::Status Ledger::Event(const std::string& kind, const std::string& detail,
                           absl::Time now) {
  return database_
      ->Run("INSERT INTO events(at, kind, detail) VALUES(?, ?, ?)",
            absl::ToUnixMillis(now), kind, detail)
      .status();
}

absl::Status Ledger::AddEvent(const std::string& kind,
                              const std::string& detail, absl::Time now) {
  return Event(kind, detail, now);
}

absl::StatusOr<std::vector<EventRecord>> Ledger::Events(int64_t after) {
  std::vector<EventRecord> events;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT id, at, kind, detail FROM events WHERE id > ? ORDER BY id",
      [&events](const Row& row) {
        events.push_back({.id = row.Int(0),
                          .at = absl::FromUnixMillis(row.Int(1)),
                          .kind = row.Text(2),
                          .detail = row.Text(3)});
      },
      after));
  return events;
}

absl::Status Ledger::SetPaused(const std::string& reason, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(const int64_t changed,
                       database_->Run("UPDATE run SET paused = 1, reason = ?1"
                                      " WHERE paused = 0 OR reason <> ?1",
                                      reason));
  if (changed > 0) MPO_RETURN_IF_ERROR(Event("paused", reason, now));
  return transaction.Commit();
}

absl::Status Ledger::Resume(const std::vector<int64_t>& waived_steps,
                            absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(const int64_t changed,
                       database_->Run("UPDATE run SET paused = 0, reason = ''"
                                      " WHERE paused = 1"));
  if (changed == 0) return transaction.Commit();
  MPO_RETURN_IF_ERROR(
      database_->Run("UPDATE units SET failures = 0 WHERE state <> 'complete'")
          .status());
  for (const int64_t step : waived_steps) {
    MPO_RETURN_IF_ERROR(
        database_->Run("UPDATE steps SET waived = 1 WHERE step = ?", step)
            .status());
  }
  MPO_RETURN_IF_ERROR(
      Event("resumed",
            waived_steps.empty()
                ? std::string()
                : absl::StrCat("share of unscorable samples accepted in step ",
                               absl::StrJoin(waived_steps, ", ")),
            now));
  return transaction.Commit();
}

absl::Status Ledger::Stop(int64_t last_step, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t changed,
      database_->Run("UPDATE run SET stopped = 1, paused = 0, reason = '',"
                     " last_step = ? WHERE stopped = 0",
                     last_step));
  if (changed > 0) {
    MPO_RETURN_IF_ERROR(
        Event("stopped", absl::StrCat("last step is ", last_step), now));
  }
  return transaction.Commit();
}

absl::Status Ledger::PutMember(const MemberRecord& member) {
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_RETURN_IF_ERROR(
      database_->Run("DELETE FROM members WHERE name = ?", member.name)
          .status());
  MPO_RETURN_IF_ERROR(
      database_
          ->Run("INSERT INTO members(id, role, name, incarnation, address)"
                " VALUES(?, ?, ?, ?, ?)",
                member.id, member.role, member.name, member.incarnation,
                member.address)
          .status());
  return transaction.Commit();
}

absl::StatusOr<std::vector<MemberRecord>> Ledger::Members() {
  std::vector<MemberRecord> members;
  MPO_RETURN_IF_ERROR(database_->Query(
      "SELECT id, role, name, incarnation, address FROM members ORDER BY name",
      [&members](const Row& row) {
        members.push_back({.id = row.Text(0),
                           .role = row.Text(1),
                           .name = row.Text(2),
                           .incarnation = row.Text(3),
                           .address = row.Text(4)});
      }));
  return members;
}

absl::Status Ledger::InsertUnits(const std::vector<WorkUnit>& units,
                                 const std::string& rubric,
                                 const std::string& monitor) {
  int64_t position = 0;
  int64_t index = 0;
  for (const WorkUnit& unit : units) {
    MPO_RETURN_IF_ERROR(
        database_
            ->Run("INSERT INTO units(id, kind, step, position, state,"
                  " min_policy_version, rubric_sha256, monitor_sha256)"
                  " VALUES(?, ?, ?, ?, 'ready', ?, ?, ?)",
                  unit.id, Name(unit.kind), unit.step, index++,
                  unit.min_policy_version, rubric, monitor)
            .status());
    for (const Sample& sample : unit.samples) {
      MPO_RETURN_IF_ERROR(database_
                              ->Run("INSERT OR IGNORE INTO prompts(id, prompt)"
                                    " VALUES(?, ?)",
                                    sample.prompt.id, ToJson(sample.prompt))
                              .status());
      MPO_RETURN_IF_ERROR(
          database_
              ->Run("INSERT INTO samples(key, unit, kind, step, position,"
                    " replica, seed, prompt) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                    sample.key, unit.id, Name(unit.kind), unit.step, position++,
                    sample.replica, sample.seed, sample.prompt.id)
              .status());
    }
  }
  return absl::OkStatus();
}

absl::Status Ledger::PlanStep(int64_t step, const std::vector<WorkUnit>& units,
                              bool monitor, absl::Time now) {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, Run());
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t added,
      database_->Run("INSERT OR IGNORE INTO steps(step, state, rubric_sha256,"
                     " planned) VALUES(?, 'planned', ?, ?)",
                     step, run.active_rubric, absl::ToUnixMillis(now)));
  if (added == 0) return transaction.Commit();
  const bool extra = monitor && run.active_rubric != run.initial_rubric;
  MPO_RETURN_IF_ERROR(InsertUnits(units, run.active_rubric,
                                  extra ? run.initial_rubric : std::string()));
  MPO_RETURN_IF_ERROR(database_
                          ->Run("UPDATE rubrics SET first_step = ?"
                                " WHERE sha256 = ? AND first_step = 0",
                                step, run.active_rubric)
                          .status());
  return transaction.Commit();
}

absl::Status Ledger::PlanEvaluation(int64_t step,
                                    const std::vector<WorkUnit>& units,
                                    absl::Time now) {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, Run());
  MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  MPO_ASSIGN_OR_RETURN(
      const int64_t added,
      database_->Run("INSERT OR IGNORE INTO evaluations(step) VALUES(?)",
                     step));
  if (added == 0) return transaction.Commit();
  MPO_RETURN_IF_ERROR(InsertUnits(units, run.initial_rubric, ""));
  MPO_RETURN_IF_ERROR(
      Event("evaluation planned", absl::StrCat("step ", step), now));
  return transaction.Commit();
}

}  // namespace mpo::orchestrator
