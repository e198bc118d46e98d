// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/run_files.h"

#include <algorithm>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "services/orchestrator/record_json.h"

namespace mpo::orchestrator {
namespace {

namespace fs = std::filesystem;

// Bounds memory and the time the ledger is locked.
constexpr int64_t kStepsAtOnce = 64;

absl::Status Extend(const fs::path& path, const std::string& lines) {
  if (lines.empty()) return absl::OkStatus();
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << lines << std::flush;
  if (!file) {
    return absl::UnavailableError(
        absl::StrCat("cannot append to ", path.string()));
  }
  return absl::OkStatus();
}

absl::Status AppendSamples(Ledger& ledger, WorkKind kind, int64_t step,
                           std::string& into) {
  MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> samples,
                       ledger.Samples(kind, step));
  for (const SampleRecord& sample : samples) {
    absl::StrAppend(&into, SampleLine(sample), "\n");
  }
  return absl::OkStatus();
}

// "cluster:a/b" -> "cluster_a_b": one folder, whatever a scope holds.
std::string FolderOf(const std::string& yaml) {
  const std::string key = "scope: ";
  size_t at = yaml.rfind(key, 0) == 0 ? 0 : yaml.find("\n" + key);
  if (at == std::string::npos) return "global";
  at = yaml.find(key, at) + key.size();
  std::string folder = yaml.substr(at, yaml.find('\n', at) - at);
  std::erase(folder, '"');
  for (char& c : folder) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       (c >= '0' && c <= '9') || c == '-';
    if (!plain) c = '_';
  }
  return folder.empty() ? "global" : folder;
}

}  // namespace

RunFiles::RunFiles(fs::path directory) : directory_(std::move(directory)) {}

absl::StatusOr<RunFiles::Pending> RunFiles::Gather(Ledger& ledger) {
  Pending pending;
  if (directory_.empty()) return pending;
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger.ReadProgress());
  MPO_ASSIGN_OR_RETURN(const auto evaluations, ledger.Evaluations());
  pending.rewrite_samples = fresh_;
  pending.rewrite_metrics = fresh_;
  for (const auto& [step, metrics] : evaluations) {
    if (metrics.empty() || exported_evaluations_.contains(step)) continue;
    // Its means belong to the line of a step that may be written already.
    pending.rewrite_metrics = true;
    exported_evaluations_.insert(step);
    MPO_RETURN_IF_ERROR(
        AppendSamples(ledger, WorkKind::kEvaluation, step, pending.samples));
  }
  const int64_t last =
      std::min(progress.committed_step, exported_step_ + kStepsAtOnce);
  pending.more = last < progress.committed_step;
  if (last > exported_step_ || pending.rewrite_metrics) {
    MPO_ASSIGN_OR_RETURN(
        const std::vector<StepRecord> steps,
        ledger.Steps(pending.rewrite_metrics ? 0 : exported_step_));
    for (const StepRecord& step : steps) {
      if (step.step > last) break;
      absl::StrAppend(&pending.metrics, MetricsLine(step), "\n");
      if (step.step <= exported_step_) continue;
      MPO_RETURN_IF_ERROR(AppendSamples(ledger, WorkKind::kTraining, step.step,
                                        pending.samples));
    }
  }
  MPO_ASSIGN_OR_RETURN(const std::vector<RubricRecord> rubrics,
                       ledger.Rubrics());
  for (const RubricRecord& rubric : rubrics) {
    if (rubric.version.value_or(-1) < exported_rubrics_) continue;
    pending.rubrics.emplace_back(directory_ / "rubrics" /
                                     FolderOf(rubric.yaml) /
                                     absl::StrCat(*rubric.version, ".yaml"),
                                 rubric.yaml);
  }
  exported_step_ = last;
  exported_rubrics_ += static_cast<int64_t>(pending.rubrics.size());
  fresh_ = false;
  return pending;
}

absl::Status RunFiles::Write(const Pending& pending) {
  if (directory_.empty()) return absl::OkStatus();
  const auto write = [this, &pending]() -> absl::Status {
    const fs::path metrics = directory_ / "metrics.jsonl";
    const fs::path samples = directory_ / "samples.jsonl";
    MPO_RETURN_IF_ERROR(pending.rewrite_metrics
                            ? WriteFileAtomically(metrics, pending.metrics)
                            : Extend(metrics, pending.metrics));
    MPO_RETURN_IF_ERROR(pending.rewrite_samples
                            ? WriteFileAtomically(samples, pending.samples)
                            : Extend(samples, pending.samples));
    for (const auto& [path, yaml] : pending.rubrics) {
      std::error_code error;
      fs::create_directories(path.parent_path(), error);
      MPO_RETURN_IF_ERROR(WriteFileAtomically(path, yaml));
    }
    return absl::OkStatus();
  };
  const absl::Status status = write();
  if (!status.ok()) {
    fresh_ = true;
    exported_step_ = exported_rubrics_ = 0;
    exported_evaluations_.clear();
  }
  return status;
}

}  // namespace mpo::orchestrator
