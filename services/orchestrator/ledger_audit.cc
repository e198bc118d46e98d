// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/ledger_audit.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "services/orchestrator/ledger.h"
#include "services/orchestrator/plan.h"

namespace mpo::orchestrator {
namespace {

using store::Row;

constexpr size_t kShownViolations = 5;

class Audit {
 public:
  Audit(store::Database& database, AuditReport& report)
      : database_(database), report_(report) {}

  // Adds a check that holds when `sql` returns no rows; the first column of
  // each row names a violation.
  absl::Status NoRows(const char* name, const char* sql) {
    std::vector<std::string> found;
    MPO_RETURN_IF_ERROR(database_.Query(
        sql, [&found](const Row& row) { found.push_back(row.Text(0)); }));
    Add(name, found);
    return absl::OkStatus();
  }

  void Add(const char* name, const std::vector<std::string>& violations) {
    AuditReport::Check check;
    check.name = name;
    check.ok = violations.empty();
    if (!check.ok) {
      const std::vector<std::string> shown(
          violations.begin(),
          violations.begin() +
              static_cast<long>(std::min(violations.size(), kShownViolations)));
      check.detail = absl::StrCat(violations.size(),
                                  " violations: ", absl::StrJoin(shown, "; "));
    }
    report_.checks.push_back(std::move(check));
  }

  absl::StatusOr<int64_t> Count(const char* sql) {
    MPO_ASSIGN_OR_RETURN(const std::optional<int64_t> count,
                         database_.QueryInt(sql));
    return count.value_or(0);
  }

 private:
  store::Database& database_;
  AuditReport& report_;
};

absl::Status CheckDatabase(Audit& audit) {
  MPO_RETURN_IF_ERROR(
      audit.NoRows("the database file is intact",
                   "SELECT integrity_check FROM pragma_integrity_check"
                   " WHERE integrity_check <> 'ok'"));
  return audit.NoRows("no row refers to a missing one",
                      "SELECT \"table\" || ' row ' || rowid"
                      " FROM pragma_foreign_key_check");
}

absl::Status CheckSteps(Audit& audit) {
  MPO_RETURN_IF_ERROR(audit.NoRows(
      "steps are planned and committed in order without a gap",
      "SELECT 'step ' || step || ' is ' || state FROM ("
      " SELECT step, state, row_number() OVER (ORDER BY step) AS position,"
      "  (SELECT max(step) FROM steps WHERE state = 'committed') AS last"
      " FROM steps)"
      " WHERE step <> position OR (step < last AND state <> 'committed')"));
  MPO_RETURN_IF_ERROR(audit.NoRows(
      "every committed step names its weights",
      "SELECT 'step ' || step FROM steps"
      " WHERE state = 'committed' AND length(weights_sha256) <> 64"));
  MPO_RETURN_IF_ERROR(audit.NoRows(
      "every planned sample of a committed step is complete",
      "SELECT s.key || ' of step ' || s.step FROM samples s"
      " JOIN steps t ON t.step = s.step WHERE s.kind = 'train'"
      " AND t.state = 'committed' AND (s.complete = 0 OR s.verdict IS NULL)"));
  MPO_RETURN_IF_ERROR(
      audit.NoRows("every sample of a committed step is used in that step",
                   "SELECT s.key || ' of step ' || s.step || ' used in '"
                   " || ifnull(b.step, 'none') FROM samples s"
                   " JOIN steps t ON t.step = s.step AND t.state <> 'planned'"
                   " LEFT JOIN batches b ON b.sample = s.key"
                   " WHERE s.kind = 'train' AND b.step IS NOT s.step"));
  MPO_RETURN_IF_ERROR(audit.NoRows(
      "no sample is used twice, by a step that was not assigned, or out of "
      "plan order",
      "SELECT b.sample || ' in step ' || b.step FROM batches b"
      " JOIN samples s ON s.key = b.sample JOIN steps t ON t.step = b.step"
      " WHERE s.kind <> 'train' OR s.position <> b.position"
      " OR t.state = 'planned' UNION ALL"
      " SELECT sample || ' twice' FROM batches GROUP BY sample"
      " HAVING count(*) > 1"));
  MPO_RETURN_IF_ERROR(audit.NoRows(
      "every step holds as many samples as the first",
      "SELECT 'step ' || step || ' has ' || count(*) FROM samples"
      " WHERE kind = 'train' GROUP BY step HAVING count(*) <>"
      " (SELECT count(*) FROM samples WHERE kind = 'train' AND step = 1)"));
  return audit.NoRows(
      "all samples of a step were judged by the rubric of the step",
      "SELECT s.key FROM samples s JOIN steps t ON t.step = s.step"
      " WHERE s.kind = 'train' AND s.complete = 1"
      " AND json_extract(s.verdict, '$.scored') = 1"
      " AND json_extract(s.verdict, '$.rubric_sha256') <> t.rubric_sha256");
}

absl::Status CheckLeases(Audit& audit) {
  MPO_RETURN_IF_ERROR(audit.NoRows(
      "every result came under a lease that was granted for its unit",
      "SELECT s.key FROM samples s LEFT JOIN grants g ON g.epoch = s.epoch"
      " WHERE s.complete = 1 AND g.unit IS NOT s.unit"));
  return audit.NoRows(
      "lease epochs were granted once each, without a gap",
      "SELECT 'epoch ' || epoch FROM (SELECT epoch,"
      " row_number() OVER (ORDER BY epoch) AS position FROM grants)"
      " WHERE epoch <> position UNION ALL"
      " SELECT 'last epoch is ' || lease_epoch FROM run WHERE lease_epoch <>"
      " (SELECT count(*) FROM grants)");
}

absl::Status CheckKeys(Ledger& ledger, Audit& audit) {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger.Run());
  std::vector<std::string> wrong;
  MPO_RETURN_IF_ERROR(ledger.database().Query(
      "SELECT key, kind, step, prompt, replica, seed FROM samples",
      [&](const Row& row) {
        const WorkKind kind =
            row.Text(1) == "eval" ? WorkKind::kEvaluation : WorkKind::kTraining;
        const std::string key =
            SampleKey(run.name, kind, row.Int(2), row.Text(3),
                      static_cast<int>(row.Int(4)));
        if (key != row.Text(0)) wrong.push_back(row.Text(0));
        if (SampleSeed(run.seed, key) != row.Unsigned(5)) {
          wrong.push_back(absl::StrCat("seed of ", row.Text(0)));
        }
      }));
  audit.Add("keys and seeds are those of the plan", wrong);
  return absl::OkStatus();
}

absl::Status CheckLineage(
    Ledger& ledger, Audit& audit,
    const std::function<absl::StatusOr<std::string>(const std::string&)>&
        digest_of) {
  MPO_ASSIGN_OR_RETURN(const std::vector<RubricRecord> rubrics,
                       ledger.Rubrics());
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger.Run());
  std::vector<std::string> wrong;
  std::set<std::string> earlier;
  int64_t next = 0;
  for (const RubricRecord& rubric : rubrics) {
    if (rubric.state == RubricState::kRejected) continue;
    const std::string name = absl::StrCat("version ", next);
    if (rubric.version != next++)
      wrong.push_back(absl::StrCat(name, " is missing"));
    const bool initial = rubric.sha256 == run.initial_rubric;
    if (initial != rubric.parent.empty() ||
        (!initial && !earlier.contains(rubric.parent))) {
      wrong.push_back(absl::StrCat(name, " has no parent before it"));
    }
    earlier.insert(rubric.sha256);
    const absl::StatusOr<std::string> digest = digest_of(rubric.yaml);
    if (!digest.ok() || *digest != rubric.sha256) {
      wrong.push_back(absl::StrCat(name, " is not the rubric of its digest"));
    }
    if ((rubric.state == RubricState::kActive) !=
        (rubric.sha256 == run.active_rubric)) {
      wrong.push_back(
          absl::StrCat(name, " and the run disagree on what is active"));
    }
  }
  audit.Add("the lineage of rubrics is whole", wrong);
  return audit.NoRows(
      "every accepted refinement names a rubric of the lineage",
      "SELECT id FROM refinements WHERE state = 'accepted' AND result NOT IN"
      " (SELECT sha256 FROM rubrics WHERE version IS NOT NULL)");
}

}  // namespace

bool AuditReport::ok() const {
  return std::all_of(checks.begin(), checks.end(),
                     [](const Check& check) { return check.ok; });
}

absl::StatusOr<AuditReport> AuditLedger(
    const std::filesystem::path& path,
    const std::function<absl::StatusOr<std::string>(const std::string& yaml)>&
        digest_of) {
  MPO_ASSIGN_OR_RETURN(const std::unique_ptr<Ledger> ledger,
                       Ledger::OpenReadOnly(path));
  AuditReport report;
  Audit audit(ledger->database(), report);
  MPO_RETURN_IF_ERROR(CheckDatabase(audit));
  MPO_RETURN_IF_ERROR(CheckSteps(audit));
  MPO_RETURN_IF_ERROR(CheckLeases(audit));
  MPO_RETURN_IF_ERROR(CheckKeys(*ledger, audit));
  MPO_RETURN_IF_ERROR(CheckLineage(*ledger, audit, digest_of));
  MPO_ASSIGN_OR_RETURN(
      report.committed_steps,
      audit.Count("SELECT count(*) FROM steps WHERE state = 'committed'"));
  MPO_ASSIGN_OR_RETURN(
      report.samples_planned,
      audit.Count("SELECT count(*) FROM samples WHERE kind = 'train'"));
  MPO_ASSIGN_OR_RETURN(
      report.samples_committed,
      audit.Count("SELECT count(*) FROM batches b JOIN steps t"
                  " ON t.step = b.step WHERE t.state = 'committed'"));
  MPO_ASSIGN_OR_RETURN(
      report.samples_unscorable,
      audit.Count("SELECT count(*) FROM batches b JOIN steps t"
                  " ON t.step = b.step AND t.state = 'committed'"
                  " JOIN samples s ON s.key = b.sample"
                  " WHERE json_extract(s.verdict, '$.scored') = 0"));
  for (AuditReport::Check& check : report.checks) {
    if (check.ok && check.detail.empty()) check.detail = "ok";
  }
  return report;
}

}  // namespace mpo::orchestrator
