// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"
#include "mpo/types/refinement.h"
#include "mpo/types/rubric.h"
#include "services/orchestrator/engine_types.h"
#include "services/orchestrator/ledger.h"
#include "services/orchestrator/orchestrator_metrics.h"
#include "services/orchestrator/plan.h"
#include "services/orchestrator/run_files.h"
#include "services/orchestrator/schedule.h"

namespace mpo::orchestrator {

// The domain of the orchestrator: decides what is planned, leased, assigned
// and refined, and keeps all of it in the ledger. Everything durable is in the
// ledger; in memory are only leases, members and waiting calls, so that a new
// engine over the same ledger continues where the last one ended.
//
// Thread-safe. Calls do not wait for anything but the ledger's disk; calls
// that wait for the run (LeaseWork, AssignBatch, Subscribe) take a callback,
// which runs on the thread that calls Tick, never under a lock.
//
// Besides what each call lists, all of them give the codes of Ledger.
class OrchestratorEngine {
 public:
  // `parts` must outlive the engine. Leases of an earlier process run on for
  // one lease time.
  static absl::StatusOr<std::unique_ptr<OrchestratorEngine>> Create(
      const EngineOptions& options, const EngineParts& parts);
  ~OrchestratorEngine();

  // Starts the threads that call Tick and Refine. Call at most once; tests
  // leave it out and call both themselves.
  void Start();
  // Ends every waiting call with UNAVAILABLE and every subscription.
  // Idempotent.
  void Shutdown();
  // Not OK once the ledger cannot be trusted any more (DATA_LOSS, INTERNAL).
  absl::Status Failure() const;

  // One round of housekeeping: ends leases, plans, answers waiting calls,
  // tells subscribers, exports files. Call from one thread at a time.
  void Tick();
  enum class Refined { kNone, kRetry, kEnded };
  // Works on the open refinement, if there is one. kRetry: it did not succeed
  // and is to be tried again. Call from one thread at a time.
  Refined Refine(std::stop_token stop);

  // INVALID_ARGUMENT: no name, role or incarnation. FAILED_PRECONDITION:
  // another configuration.
  absl::StatusOr<Registration> Register(const MemberRecord& member,
                                        const std::string& config_sha256);
  // Units of `held` whose lease is not this member's. NOT_FOUND: register
  // again.
  absl::StatusOr<std::vector<std::string>> Heartbeat(
      const std::string& member_id, const std::vector<std::string>& held);
  // `done` is called once; NOT_FOUND: register again. Returns an id for
  // CancelWait.
  uint64_t LeaseWork(const std::string& member_id, absl::Duration wait,
                     LeaseDone done);
  // INVALID_ARGUMENT: the outcomes are not those of the unit's samples, or of
  // another rubric. ABORTED: generated with weights that are too old.
  // FAILED_PRECONDITION: an epoch that was never granted for that unit.
  absl::StatusOr<Ledger::Recorded> CompleteWork(const Completion& completion);
  // FAILED_PRECONDITION: a step after the next one.
  uint64_t AssignBatch(int64_t step, absl::Duration wait, BatchDone done);
  // The waiting call is answered with CANCELLED; nothing if it was answered.
  void CancelWait(uint64_t wait_id);
  // True when it had been committed before. INVALID_ARGUMENT: no digest.
  // FAILED_PRECONDITION: not assigned, or committed with other weights.
  absl::StatusOr<bool> CommitStep(const StepCommit& commit);

  // `changed` gets the state now and whenever it changed; nullopt at the end.
  uint64_t Subscribe(StatusChanged changed);
  void Unsubscribe(uint64_t subscription);

  absl::Status PauseRun(const std::string& reason);
  absl::Status ResumeRun();
  absl::Status StopRun();

  // Step 0 (the untrained policy, evaluation means only) is included when
  // `after` is negative.
  absl::StatusOr<std::vector<StepRecord>> ListSteps(int64_t after);
  absl::StatusOr<std::vector<SampleRecord>> ListSamples(WorkKind kind,
                                                        int64_t step);
  absl::StatusOr<std::vector<RubricRecord>> ListRubrics();
  // NOT_FOUND.
  absl::StatusOr<StoredRubric> GetRubric(const std::string& sha256);
  absl::StatusOr<StoredRubric> GetRubric(int64_t version);
  // INVALID_ARGUMENT: not valid, with every problem. Returns its SHA-256.
  absl::StatusOr<std::string> ProposeRubric(const Rubric& rubric,
                                            const std::string& reason);
  // NOT_FOUND; FAILED_PRECONDITION: rejected.
  absl::Status ActivateRubric(const std::string& sha256);
  // FAILED_PRECONDITION: the active rubric is the initial one.
  absl::StatusOr<std::string> RollbackRubric();

 private:
  struct Lease {
    int64_t epoch = 0;
    std::string member_id;
    WorkKind kind = WorkKind::kTraining;
    absl::Time expiry;
  };
  struct Member {
    MemberRecord record;
    absl::Time expiry;
  };
  struct LeaseWait {
    std::string member_id;
    absl::Time deadline;
    LeaseDone done;
  };
  struct BatchWait {
    int64_t step = 0;
    absl::Time deadline;
    BatchDone done;
  };
  using Deferred = std::vector<std::function<void()>>;

  OrchestratorEngine(const EngineOptions& options, const EngineParts& parts);
  absl::Status Load() ABSL_LOCKS_EXCLUDED(mu_);

  // Housekeeping (orchestrator_engine.cc).
  absl::Status Advance(Deferred& deferred) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status ExpireLeases() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ExpireMembers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status FinishEvaluations() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status PlanAhead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status GateUnscorable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status AnswerLeases(Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status AnswerBatches(Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Publish(Deferred& deferred) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Duration NextDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Note(const absl::Status& status, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TickLoop(std::stop_token stop);
  void RefineLoop(std::stop_token stop);

  // Work and steps (orchestrator_engine_work.cc).
  absl::StatusOr<std::optional<LeaseReply>> TryLease(
      const std::string& member_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::optional<BatchReply>> TryBatch(int64_t step)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckGrant(const Completion& completion)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status GiveBack(const std::string& unit, int64_t epoch,
                        const std::string& detail, bool failed = true)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Renew(const std::string& member_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Refinement (orchestrator_engine_rubrics.cc).
  absl::StatusOr<std::optional<RefinementRecord>> OpenRefinement(
      RefinementRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Fills in what an ended review found; the rubric to store, if any.
  std::optional<RubricRecord> Judge(const RefinementProposal& proposal,
                                    const std::string& active_rubric,
                                    RefinementRecord& record) const;
  absl::Status CollectEvidence(RefinementRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Refined> Conclude(
      RefinementRecord& record, const RefinementRequest& request,
      const absl::StatusOr<RefinementProposal>& answer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<StoredRubric> Stored(
      const absl::StatusOr<RubricRecord>& record) const;

  const EngineOptions options_;
  const EngineParts parts_;
  const int64_t samples_per_step_;

  mutable Mutex mu_;
  CondVar tick_;
  CondVar refine_;
  Ledger& ledger_ ABSL_GUARDED_BY(mu_);
  PromptOrder order_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Lease> leases_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Member> members_ ABSL_GUARDED_BY(mu_);
  // Units that were given back are not leased again before this time.
  std::map<std::string, absl::Time> not_before_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, LeaseWait> lease_waits_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, BatchWait> batch_waits_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, StatusChanged> subscribers_ ABSL_GUARDED_BY(mu_);
  std::set<uint64_t> fresh_subscribers_ ABSL_GUARDED_BY(mu_);
  std::set<uint64_t> cancelled_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::optional<RunStatus> published_ ABSL_GUARDED_BY(mu_);
  int64_t gated_step_ ABSL_GUARDED_BY(mu_) = 0;
  bool changed_ ABSL_GUARDED_BY(mu_) = true;
  bool refinement_open_ ABSL_GUARDED_BY(mu_) = false;
  bool shut_down_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status trouble_ ABSL_GUARDED_BY(mu_);  // Of the last round.
  // Since when each round had trouble.
  absl::Time trouble_since_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  // Ends the review that is being asked for.
  std::stop_source asking_ ABSL_GUARDED_BY(mu_);
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  // Used by the thread that calls Tick only.
  RunFiles files_;
  std::jthread tick_thread_;
  std::jthread refine_thread_;
};

}  // namespace mpo::orchestrator
