// SPDX-License-Identifier: Apache-2.0
// Rubric store and refinements of the engine.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "services/orchestrator/orchestrator_engine.h"

namespace mpo::orchestrator {
namespace {

std::vector<std::string> Reasons(const std::vector<RubricChange>& changes) {
  std::vector<std::string> reasons;
  for (const RubricChange& change : changes) {
    reasons.push_back(absl::StrCat(change.action, " ", change.criterion, ": ",
                                   change.reason));
  }
  return reasons;
}

// The meta-judge answered, but not with a rubric that can be used.
bool IsFinal(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status);
}

}  // namespace

absl::StatusOr<std::vector<RubricRecord>> OrchestratorEngine::ListRubrics() {
  MutexLock lock(mu_);
  return ledger_.Rubrics();
}

absl::StatusOr<StoredRubric> OrchestratorEngine::Stored(
    const absl::StatusOr<RubricRecord>& record) const {
  MPO_RETURN_IF_ERROR(record.status());
  absl::StatusOr<Rubric> rubric = parts_.rubrics.parse(record->yaml);
  if (!rubric.ok()) {
    return absl::DataLossError(absl::StrCat("ledger: rubric ", record->sha256,
                                            ": ", rubric.status().message()));
  }
  return StoredRubric{.rubric = *std::move(rubric),
                      .sha256 = record->sha256,
                      .version = record->version};
}

absl::StatusOr<StoredRubric> OrchestratorEngine::GetRubric(
    const std::string& sha256) {
  MutexLock lock(mu_);
  return Stored(ledger_.FindRubric(sha256));
}

absl::StatusOr<StoredRubric> OrchestratorEngine::GetRubric(int64_t version) {
  MutexLock lock(mu_);
  return Stored(ledger_.FindRubric(version));
}

absl::StatusOr<std::string> OrchestratorEngine::ProposeRubric(
    const Rubric& rubric, const std::string& reason) {
  const std::vector<std::string> problems = parts_.rubrics.validate(rubric);
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  }
  MutexLock lock(mu_);
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  RubricRecord record{.sha256 = parts_.rubrics.sha256(rubric),
                      .parent = run.active_rubric,
                      .state = RubricState::kDraft,
                      .origin = "operator",
                      .yaml = parts_.rubrics.yaml(rubric)};
  if (!reason.empty()) record.reasons.push_back(reason);
  MPO_RETURN_IF_ERROR(ledger_.AddRubric(record, parts_.clock.Wall()));
  Changed();
  return record.sha256;
}

absl::Status OrchestratorEngine::ActivateRubric(const std::string& sha256) {
  MutexLock lock(mu_);
  Changed();
  return ledger_.ActivateRubric(sha256, parts_.clock.Wall());
}

absl::StatusOr<std::string> OrchestratorEngine::RollbackRubric() {
  MutexLock lock(mu_);
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  MPO_ASSIGN_OR_RETURN(const RubricRecord active,
                       ledger_.FindRubric(run.active_rubric));
  if (active.parent.empty()) {
    return absl::FailedPreconditionError(
        "the active rubric is the initial one and has no parent");
  }
  MPO_RETURN_IF_ERROR(
      ledger_.ActivateRubric(active.parent, parts_.clock.Wall()));
  Changed();
  return active.parent;
}

absl::Status OrchestratorEngine::CollectEvidence(RefinementRequest& request) {
  const EvidenceSteps steps =
      EvidenceStepsOf(request.step, options_.evidence, samples_per_step_);
  const auto read = [this](int64_t first, int64_t last)
                        ABSL_NO_THREAD_SAFETY_ANALYSIS
      -> absl::StatusOr<std::vector<SampleRecord>> {
    std::vector<SampleRecord> all;
    for (int64_t step = first; step <= last; ++step) {
      MPO_ASSIGN_OR_RETURN(std::vector<SampleRecord> one,
                           ledger_.Samples(WorkKind::kTraining, step));
      std::move(one.begin(), one.end(), std::back_inserter(all));
    }
    return all;
  };
  MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> recent,
                       read(steps.recent_first, steps.recent_last));
  MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> baseline,
                       read(steps.baseline_first, steps.baseline_last));
  request.recent = ToEvidence(recent, options_.evidence, /*newest=*/true);
  request.baseline =
      ToEvidence(baseline, static_cast<int64_t>(request.recent.size()),
                 /*newest=*/false);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<RefinementRecord>>
OrchestratorEngine::OpenRefinement(RefinementRequest& request) {
  MPO_ASSIGN_OR_RETURN(const std::vector<RefinementRecord> all,
                       ledger_.Refinements());
  const auto open =
      std::find_if(all.begin(), all.end(), [](const RefinementRecord& one) {
        return one.state == RefinementState::kOpen;
      });
  if (open == all.end()) return std::nullopt;
  request.id = open->id;
  request.task = options_.task;
  request.step = open->step;
  // Reviews follow each other: what the last one remembered goes to the next.
  if (open != all.begin()) request.memory = std::prev(open)->memory;
  MPO_ASSIGN_OR_RETURN(StoredRubric base,
                       Stored(ledger_.FindRubric(open->base_rubric)));
  request.rubric = std::move(base.rubric);
  MPO_RETURN_IF_ERROR(CollectEvidence(request));
  return *open;
}

std::optional<RubricRecord> OrchestratorEngine::Judge(
    const RefinementProposal& proposal, const std::string& active_rubric,
    RefinementRecord& record) const {
  record.changes = proposal.changes;
  record.analyses = proposal.analyses;
  RubricRecord rubric{.sha256 = parts_.rubrics.sha256(proposal.rubric),
                      .parent = record.base_rubric,
                      .state = RubricState::kDraft,
                      .origin = "refinement",
                      .reasons = Reasons(proposal.changes),
                      .yaml = parts_.rubrics.yaml(proposal.rubric)};
  if (proposal.changes.empty() || rubric.sha256 == record.base_rubric) {
    record.state = RefinementState::kUnchanged;
    record.memory = proposal.memory;
    return std::nullopt;
  }
  record.result_rubric = rubric.sha256;
  record.reasons = parts_.rubrics.validate(proposal.rubric);
  if (static_cast<int>(proposal.rubric.criteria.size()) >
      options_.max_criteria) {
    record.reasons.push_back(
        absl::StrCat("expected at most ", options_.max_criteria,
                     " criteria, got ", proposal.rubric.criteria.size()));
  }
  if (!record.reasons.empty()) {
    record.state = RefinementState::kRejected;
    rubric.state = RubricState::kRejected;
    rubric.reasons = record.reasons;
    return rubric;
  }
  if (active_rubric != record.base_rubric) {
    record.state = RefinementState::kRejected;
    record.reasons = {
        "another rubric became active while this one was refined; it is kept "
        "as a draft"};
    return rubric;
  }
  record.state = RefinementState::kAccepted;
  record.memory = proposal.memory;
  return rubric;
}

absl::StatusOr<OrchestratorEngine::Refined> OrchestratorEngine::Conclude(
    RefinementRecord& record, const RefinementRequest& request,
    const absl::StatusOr<RefinementProposal>& answer) {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  record.memory = request.memory;
  std::optional<RubricRecord> rubric;
  if (answer.ok()) {
    rubric = Judge(*answer, run.active_rubric, record);
  } else {
    const std::string reason(answer.status().message());
    MPO_RETURN_IF_ERROR(ledger_.CountRefinementAttempt(record.id));
    ++record.attempts;
    MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
    // No step is left that a later answer could judge.
    const bool over = progress.committed_step >= run.last_step;
    if (!over && !IsFinal(answer.status()) &&
        record.attempts < options_.refine_attempts) {
      return Refined::kRetry;
    }
    record.reasons = {reason};
    record.state = absl::IsFailedPrecondition(answer.status())
                       ? RefinementState::kRejected
                       : RefinementState::kFailed;
  }
  MPO_ASSIGN_OR_RETURN(
      const bool ended,
      ledger_.EndRefinement(record, rubric, parts_.clock.Wall()));
  if (!ended) return Refined::kNone;  // The run was stopped meanwhile.
  parts_.metrics.Refinements(record.state).Increment();
  Changed();
  return Refined::kEnded;
}

OrchestratorEngine::Refined OrchestratorEngine::Refine(std::stop_token stop) {
  RefinementRequest request;
  absl::StatusOr<std::optional<RefinementRecord>> open = std::nullopt;
  std::stop_source asking;
  {
    MutexLock lock(mu_);
    refinement_open_ = false;
    asking_ = asking;
    open = OpenRefinement(request);
  }
  if (open.ok() && !open->has_value()) return Refined::kNone;
  absl::StatusOr<Refined> refined = Refined::kRetry;
  if (open.ok()) {
    absl::StatusOr<RefinementProposal> answer = absl::InvalidArgumentError(
        "none of the samples that make the evidence has a score");
    const std::stop_callback chain(stop, [&asking] { asking.request_stop(); });
    if (!request.recent.empty()) {
      answer = parts_.refine(request, asking.get_token());
    }
    // An interrupted review stays open: the next process asks again with the
    // same id and the same evidence.
    if (stop.stop_requested() && !answer.ok()) return Refined::kNone;
    if (!answer.ok()) {
      logging::Warning("refinement not answered",
                       {{"id", request.id}, {"status", answer.status()}});
    }
    MutexLock lock(mu_);
    refined = Conclude(**open, request, answer);
    if (refined.ok() && *refined == Refined::kRetry) refinement_open_ = true;
  }
  const absl::Status status = open.ok() ? refined.status() : open.status();
  if (!status.ok()) {
    logging::Error("refinement not recorded",
                   {{"id", request.id}, {"status", status}});
    return Refined::kRetry;
  }
  if (*refined == Refined::kEnded) {
    logging::Info("refinement ended",
                  {{"id", request.id}, {"outcome", Name((*open)->state)}});
  }
  return *refined;
}

void OrchestratorEngine::RefineLoop(std::stop_token stop) {
  int64_t retries = 0;
  while (!stop.stop_requested()) {
    {
      MutexLock lock(mu_);
      refine_.WaitFor(
          mu_, stop, absl::Seconds(60),
          [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return refinement_open_; });
      if (stop.stop_requested()) return;
      if (!refinement_open_) continue;
    }
    if (Refine(stop) != Refined::kRetry) {
      retries = 0;
      continue;
    }
    MutexLock lock(mu_);
    refine_.WaitFor(mu_, stop, RetryPause(options_.refine_pause, ++retries),
                    [] { return false; });
  }
}

}  // namespace mpo::orchestrator
