// SPDX-License-Identifier: Apache-2.0
// Batches, commits and administration of the engine.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "services/orchestrator/orchestrator_engine.h"

namespace mpo::orchestrator {
namespace {

constexpr absl::Duration kLongestWait = absl::Seconds(60);

bool IsDigest(const std::string& text) {
  return text.size() == 64 &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Learners report NaN for steps they skipped; such figures are left out and
// counted, since no reader could use them.
void MergeFinite(const std::map<std::string, double>& from,
                 std::map<std::string, double>& into) {
  for (const auto& [name, value] : from) {
    if (std::isfinite(value)) {
      into.insert_or_assign(name, value);
    } else {
      into["nonfinite_metrics"] += 1;
    }
  }
}

}  // namespace

uint64_t OrchestratorEngine::AssignBatch(int64_t step, absl::Duration wait,
                                         BatchDone done) {
  MutexLock lock(mu_);
  const uint64_t id = next_id_++;
  const absl::Duration bounded =
      std::clamp(wait, absl::ZeroDuration(), kLongestWait);
  batch_waits_[id] = {step, parts_.clock.Steady() + bounded, std::move(done)};
  Changed();
  return id;
}

absl::StatusOr<std::optional<BatchReply>> OrchestratorEngine::TryBatch(
    int64_t step) {
  if (step < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a step from 1, got ", step));
  }
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  if (step > run.last_step) return BatchReply{.finished = true};
  const int64_t next = progress.committed_step + 1;
  if (step > next) {
    return absl::FailedPreconditionError(
        absl::StrCat("expected step ", next, " or an earlier one, got ", step));
  }
  if (step > progress.assigned_step) {
    const bool ready = progress.samples_planned > 0 &&
                       progress.samples_done == progress.samples_planned;
    if (run.paused || !ready || gated_step_ < step) return std::nullopt;
  }
  BatchReply::Batch batch;
  batch.step = step;
  MPO_ASSIGN_OR_RETURN(batch.sample_keys,
                       ledger_.AssignStep(step, parts_.clock.Wall()));
  MPO_ASSIGN_OR_RETURN(const StepRecord record, ledger_.FindStep(step));
  batch.rubric_sha256 = record.rubric_sha256;
  return BatchReply{.batch = std::move(batch)};
}

absl::StatusOr<bool> OrchestratorEngine::CommitStep(const StepCommit& commit) {
  if (!IsDigest(commit.weights_sha256)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step ", commit.step, ": expected the weights' SHA-256, got \"",
        commit.weights_sha256, "\""));
  }
  MutexLock lock(mu_);
  absl::StatusOr<StepRecord> found = ledger_.FindStep(commit.step);
  if (absl::IsNotFound(found.status()) ||
      (found.ok() && found->state == StepState::kPlanned)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "step ", commit.step, " was not assigned and cannot be committed"));
  }
  MPO_RETURN_IF_ERROR(found.status());
  StepRecord record = *std::move(found);
  if (record.state == StepState::kCommitted) {
    if (record.weights_sha256 == commit.weights_sha256) return true;
    return absl::FailedPreconditionError(
        absl::StrCat("step ", commit.step, " was committed with weights ",
                     record.weights_sha256, ", got ", commit.weights_sha256));
  }
  MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> samples,
                       ledger_.Samples(WorkKind::kTraining, commit.step));
  MPO_ASSIGN_OR_RETURN(const std::vector<UnitRecord> units,
                       ledger_.Units(WorkKind::kTraining, commit.step));
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  const absl::Time now = parts_.clock.Wall();
  record.weights_sha256 = commit.weights_sha256;
  MergeFinite(commit.metrics, record.metrics);
  MergeFinite(StepMeans(samples, units), record.metrics);
  for (const UnitRecord& unit : units) {
    record.seconds["generation"] += unit.generation_seconds;
    record.seconds["judging"] += unit.judging_seconds;
  }
  record.seconds["total"] = absl::ToDoubleSeconds(now - record.planned);
  MergeFinite(commit.seconds, record.seconds);
  std::string refinement;
  if (RefinementDue(options_.policy, run, commit.step, progress)) {
    refinement = absl::StrCat(run.name, "/refinement/", commit.step);
  }
  MPO_RETURN_IF_ERROR(ledger_.CommitStep(record, refinement, now));
  parts_.metrics.steps_committed.Increment();
  Changed();
  return false;
}

absl::Status OrchestratorEngine::PauseRun(const std::string& reason) {
  MutexLock lock(mu_);
  Changed();
  return ledger_.SetPaused(
      reason.empty() ? std::string("paused by an operator") : reason,
      parts_.clock.Wall());
}

absl::Status OrchestratorEngine::ResumeRun() {
  MutexLock lock(mu_);
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  const int64_t step = progress.committed_step + 1;
  std::vector<int64_t> waived;
  // A complete step that the gate has not let through is why it paused.
  const bool complete = progress.samples_planned > 0 &&
                        progress.samples_done == progress.samples_planned;
  if (run.paused && complete && progress.assigned_step < step) {
    MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> samples,
                         ledger_.Samples(WorkKind::kTraining, step));
    if (UnscorableShare(samples) > options_.policy.max_unscorable) {
      waived.push_back(step);
    }
  }
  not_before_.clear();
  Changed();
  return ledger_.Resume(waived, parts_.clock.Wall());
}

absl::Status OrchestratorEngine::StopRun() {
  std::stop_source asking;
  {
    MutexLock lock(mu_);
    MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
    MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
    Changed();
    const absl::Time now = parts_.clock.Wall();
    MPO_RETURN_IF_ERROR(ledger_.Stop(LastStepWhenStopped(run, progress), now));
    // A review that is still open would hold up the end of the run.
    MPO_ASSIGN_OR_RETURN(std::vector<RefinementRecord> refinements,
                         ledger_.Refinements());
    for (RefinementRecord& one : refinements) {
      if (one.state != RefinementState::kOpen) continue;
      one.state = RefinementState::kFailed;
      one.reasons = {"the run was stopped"};
      MPO_RETURN_IF_ERROR(
          ledger_.EndRefinement(one, std::nullopt, now).status());
      parts_.metrics.Refinements(one.state).Increment();
    }
    asking = asking_;
  }
  asking.request_stop();  // Runs callbacks: not under the lock.
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StepRecord>> OrchestratorEngine::ListSteps(
    int64_t after) {
  MutexLock lock(mu_);
  std::vector<StepRecord> steps;
  if (after < 0) {
    MPO_ASSIGN_OR_RETURN(const auto evaluations, ledger_.Evaluations());
    const auto untrained = evaluations.find(0);
    if (untrained != evaluations.end() && !untrained->second.empty()) {
      StepRecord start;
      start.state = StepState::kCommitted;
      start.metrics = untrained->second;
      MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
      start.rubric_sha256 = run.initial_rubric;
      steps.push_back(std::move(start));
    }
  }
  MPO_ASSIGN_OR_RETURN(const std::vector<StepRecord> planned,
                       ledger_.Steps(std::max<int64_t>(0, after)));
  steps.insert(steps.end(), planned.begin(), planned.end());
  return steps;
}

absl::StatusOr<std::vector<SampleRecord>> OrchestratorEngine::ListSamples(
    WorkKind kind, int64_t step) {
  MutexLock lock(mu_);
  return ledger_.Samples(kind, step);
}

}  // namespace mpo::orchestrator
