// SPDX-License-Identifier: Apache-2.0
#include "cli/run_snapshot.h"

#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "services/orchestrator/ledger.h"

namespace mpo::cli {
namespace {

using orchestrator::Ledger;

absl::StatusOr<std::unique_ptr<Ledger>> OpenLedger(
    const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "ledger.sqlite";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return absl::NotFoundError(absl::StrCat(
        "no run in ", directory.string(),
        ": expected the run directory of mpo train, with a ledger.sqlite"));
  }
  return Ledger::OpenReadOnly(path);
}

absl::StatusOr<SampleCounts> CountSamples(Ledger& ledger) {
  SampleCounts counts;
  MPO_RETURN_IF_ERROR(ledger.database().Query(
      "SELECT count(*) FROM samples WHERE kind = 'train'",
      [&](const store::Row& row) { counts.planned = row.Int(0); }));
  MPO_RETURN_IF_ERROR(ledger.database().Query(
      "SELECT count(*), coalesce(sum(json_extract(samples.verdict, "
      "'$.scored') = 0), 0) FROM batches "
      "JOIN steps ON steps.step = batches.step "
      "JOIN samples ON samples.key = batches.sample "
      "WHERE steps.state = 'committed'",
      [&](const store::Row& row) {
        counts.committed = row.Int(0);
        counts.unscorable = row.Int(1);
      }));
  return counts;
}

}  // namespace

absl::StatusOr<SupervisionRecord> ReadSupervision(
    const std::filesystem::path& directory) {
  const absl::StatusOr<std::string> text =
      ReadFile(directory / "supervision.json");
  if (absl::IsNotFound(text.status())) return SupervisionRecord{};
  if (!text.ok()) return text.status();
  try {
    const nlohmann::json json = nlohmann::json::parse(*text);
    return SupervisionRecord{
        .seconds = json.at("seconds").get<double>(),
        .restarts = json.at("restarts").get<std::map<std::string, int>>()};
  } catch (const std::exception& error) {
    return absl::DataLossError(absl::StrCat(
        (directory / "supervision.json").string(), ": ", error.what()));
  }
}

absl::Status WriteSupervision(const std::filesystem::path& directory,
                              const SupervisionRecord& record) {
  const nlohmann::ordered_json json{{"seconds", record.seconds},
                                    {"restarts", record.restarts}};
  return WriteFileAtomically(directory / "supervision.json",
                             json.dump() + "\n");
}

absl::StatusOr<RunSnapshot> ReadRun(const std::filesystem::path& directory) {
  MPO_ASSIGN_OR_RETURN(const auto ledger, OpenLedger(directory));
  RunSnapshot snapshot;
  MPO_ASSIGN_OR_RETURN(snapshot.run, ledger->Run());
  MPO_ASSIGN_OR_RETURN(snapshot.steps, ledger->Steps(0));
  MPO_ASSIGN_OR_RETURN(snapshot.rubrics, ledger->Rubrics());
  MPO_ASSIGN_OR_RETURN(snapshot.refinements, ledger->Refinements());
  MPO_ASSIGN_OR_RETURN(snapshot.evaluations, ledger->Evaluations());
  MPO_ASSIGN_OR_RETURN(snapshot.events, ledger->Events(0));
  MPO_ASSIGN_OR_RETURN(snapshot.samples, CountSamples(*ledger));
  std::error_code ignored;
  if (std::filesystem::exists(directory / "supervision.json", ignored)) {
    MPO_ASSIGN_OR_RETURN(snapshot.supervision, ReadSupervision(directory));
  }
  snapshot.config = ReadFile(directory / "config.yaml").value_or("");
  snapshot.resolved = ReadFile(directory / "config.resolved.yaml").value_or("");
  return snapshot;
}

absl::StatusOr<std::vector<orchestrator::SampleRecord>> ReadSamples(
    const std::filesystem::path& directory, WorkKind kind, int64_t step) {
  MPO_ASSIGN_OR_RETURN(const auto ledger, OpenLedger(directory));
  return ledger->Samples(kind, step);
}

}  // namespace mpo::cli
