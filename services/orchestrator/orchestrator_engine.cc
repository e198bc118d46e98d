// SPDX-License-Identifier: Apache-2.0
// Start, housekeeping and subscriptions of the engine.
#include "services/orchestrator/orchestrator_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"

namespace mpo::orchestrator {
namespace {

constexpr absl::Duration kLongestRound = absl::Seconds(1);

// Trouble that may pass is told as a pause once it has lasted that long.
constexpr absl::Duration kPatience = absl::Seconds(10);

bool CannotGoOn(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsInternal(status) ||
         absl::IsAlreadyExists(status);
}

// Answers the waits that `try_one` has a reply for, that are cancelled or past
// their deadline. Ids grow: who asked first is served first.
template <typename Reply, typename Wait, typename TryOne>
absl::Status AnswerWaits(std::map<uint64_t, Wait>& waits,
                         std::set<uint64_t>& cancelled, absl::Time now,
                         TryOne try_one,
                         std::vector<std::function<void()>>& deferred) {
  absl::Status trouble;
  for (auto wait = waits.begin(); trouble.ok() && wait != waits.end();) {
    absl::StatusOr<Reply> answer = Reply{};
    if (cancelled.erase(wait->first) > 0) {
      answer = absl::CancelledError("the caller is gone");
    } else {
      absl::StatusOr<std::optional<Reply>> reply = try_one(wait->second);
      if (!reply.ok()) {
        answer = reply.status();
        // The ledger's own trouble is also the end of this round.
        if (CannotGoOn(reply.status())) trouble = reply.status();
      } else if (reply->has_value()) {
        answer = **std::move(reply);
      } else if (wait->second.deadline > now) {
        ++wait;
        continue;
      }
    }
    deferred.emplace_back(
        [done = std::move(wait->second.done), answer] { done(answer); });
    wait = waits.erase(wait);
  }
  return trouble;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OrchestratorEngine>> OrchestratorEngine::Create(
    const EngineOptions& options, const EngineParts& parts) {
  MPO_RETURN_IF_ERROR(ValidatePlan(options.plan));
  std::unique_ptr<OrchestratorEngine> engine(
      new OrchestratorEngine(options, parts));
  MPO_RETURN_IF_ERROR(engine->Load());
  return engine;
}

OrchestratorEngine::OrchestratorEngine(const EngineOptions& options,
                                       const EngineParts& parts)
    : options_(options),
      parts_(parts),
      samples_per_step_(static_cast<int64_t>(options.plan.prompts_per_step) *
                        options.plan.group_size),
      ledger_(parts.ledger),
      order_(options.plan.seed,
             static_cast<int64_t>(options.plan.training.size()),
             options.plan.prompts_per_step),
      files_(options.directory) {}

OrchestratorEngine::~OrchestratorEngine() {
  Shutdown();
  tick_thread_.request_stop();
  refine_thread_.request_stop();
}

absl::Status OrchestratorEngine::Load() {
  MutexLock lock(mu_);
  const absl::Time now = parts_.clock.Steady();
  MPO_ASSIGN_OR_RETURN(const std::vector<MemberRecord> members,
                       ledger_.Members());
  for (const MemberRecord& member : members) {
    members_[member.id] = {member, now + options_.member_ttl};
  }
  MPO_ASSIGN_OR_RETURN(const std::vector<UnitRecord> units,
                       ledger_.OpenUnits());
  for (const UnitRecord& unit : units) {
    if (unit.state != UnitState::kLeased) continue;
    leases_[unit.id] = {.epoch = unit.lease_epoch,
                        .member_id = unit.member_id,
                        .kind = unit.kind,
                        .expiry = now + options_.lease};
  }
  return absl::OkStatus();
}

void OrchestratorEngine::Start() {
  tick_thread_ = std::jthread([this](std::stop_token stop) { TickLoop(stop); });
  refine_thread_ =
      std::jthread([this](std::stop_token stop) { RefineLoop(stop); });
}

void OrchestratorEngine::Shutdown() {
  {
    MutexLock lock(mu_);
    shut_down_ = true;
    Changed();
  }
  // Without a thread of its own, nobody else answers the waiting calls.
  if (!tick_thread_.joinable()) Tick();
}

absl::Status OrchestratorEngine::Failure() const {
  MutexLock lock(mu_);
  return failure_;
}

void OrchestratorEngine::Changed() {
  changed_ = true;
  tick_.NotifyAll();
}

void OrchestratorEngine::TickLoop(std::stop_token stop) {
  while (!stop.stop_requested()) {
    Tick();
    MutexLock lock(mu_);
    tick_.WaitFor(mu_, stop, NextDue(),
                  [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return changed_; });
  }
}

absl::Duration OrchestratorEngine::NextDue() const {
  absl::Time due = parts_.clock.Steady() + kLongestRound;
  for (const auto& [id, lease] : leases_) due = std::min(due, lease.expiry);
  for (const auto& [id, wait] : lease_waits_)
    due = std::min(due, wait.deadline);
  for (const auto& [id, wait] : batch_waits_)
    due = std::min(due, wait.deadline);
  if (!lease_waits_.empty()) {
    for (const auto& [unit, at] : not_before_) due = std::min(due, at);
  }
  return std::max(due - parts_.clock.Steady(), absl::Milliseconds(1));
}

void OrchestratorEngine::Tick() {
  Deferred deferred;
  RunFiles::Pending pending;
  bool write = false;
  {
    MutexLock lock(mu_);
    changed_ = false;
    absl::Status status = Advance(deferred);
    if (status.ok()) {
      absl::StatusOr<RunFiles::Pending> gathered = files_.Gather(ledger_);
      status = gathered.status();
      write = gathered.ok();
      if (gathered.ok()) pending = *std::move(gathered);
      if (pending.more) changed_ = true;
    }
    if (!shut_down_) Note(status, deferred);
  }
  for (const std::function<void()>& call : deferred) call();
  if (!write) return;
  const absl::Status written = files_.Write(pending);
  if (!written.ok()) {
    logging::Warning("run files not exported", {{"status", written}});
  }
}

void OrchestratorEngine::Note(const absl::Status& status, Deferred& deferred) {
  if (!status.ok()) {
    parts_.metrics.ledger_errors.Increment();
    if (CannotGoOn(status) && failure_.ok()) failure_ = status;
  }
  if (status.code() != trouble_.code()) {
    deferred.emplace_back([status] {
      if (status.ok()) {
        logging::Info("ledger works again");
      } else {
        logging::Error("housekeeping failed", {{"status", status}});
      }
    });
  }
  trouble_ = status;
  if (status.ok()) {
    trouble_since_ = absl::InfiniteFuture();
    return;
  }
  const absl::Time now = parts_.clock.Steady();
  trouble_since_ = std::min(trouble_since_, now);
  if (!CannotGoOn(status) && now - trouble_since_ < kPatience) return;
  // People who watch see why nothing moves; the next good round corrects it.
  RunStatus told = published_.value_or(RunStatus{});
  told.run_id = options_.plan.run;
  told.phase = Phase::kPaused;
  told.reason = std::string(status.message());
  if (published_ == told) return;
  for (const auto& [id, changed] : subscribers_) {
    deferred.emplace_back([tell = changed, told] { tell(told); });
  }
  published_ = std::move(told);
}

absl::Status OrchestratorEngine::Advance(Deferred& deferred) {
  if (shut_down_) {
    const absl::Status over = absl::UnavailableError("shutting down");
    for (auto& [id, wait] : lease_waits_) {
      deferred.emplace_back(
          [done = std::move(wait.done), over] { done(over); });
    }
    for (auto& [id, wait] : batch_waits_) {
      deferred.emplace_back(
          [done = std::move(wait.done), over] { done(over); });
    }
    for (auto& [id, changed] : subscribers_) {
      deferred.emplace_back(
          [told = std::move(changed)] { told(std::nullopt); });
    }
    lease_waits_.clear();
    batch_waits_.clear();
    subscribers_.clear();
    fresh_subscribers_.clear();
    return absl::OkStatus();
  }
  ExpireMembers();
  MPO_RETURN_IF_ERROR(ExpireLeases());
  MPO_RETURN_IF_ERROR(FinishEvaluations());
  MPO_RETURN_IF_ERROR(GateUnscorable());
  MPO_RETURN_IF_ERROR(PlanAhead());
  MPO_RETURN_IF_ERROR(AnswerLeases(deferred));
  MPO_RETURN_IF_ERROR(AnswerBatches(deferred));
  return Publish(deferred);
}

void OrchestratorEngine::ExpireMembers() {
  const absl::Time now = parts_.clock.Steady();
  std::erase_if(members_, [now](const auto& entry) {
    return entry.second.expiry <= now;
  });
  std::map<std::string, int> by_role;
  for (const auto& [id, member] : members_) ++by_role[member.record.role];
  parts_.metrics.SetMembers(by_role);
}

absl::Status OrchestratorEngine::ExpireLeases() {
  const absl::Time now = parts_.clock.Steady();
  std::vector<std::pair<std::string, Lease>> over;
  for (const auto& [unit, lease] : leases_) {
    if (lease.expiry <= now) over.emplace_back(unit, lease);
  }
  for (const auto& [unit, lease] : over) {
    parts_.metrics.lease_expirations.Increment();
    MPO_RETURN_IF_ERROR(
        GiveBack(unit, lease.epoch,
                 absl::StrCat("lease of ", lease.member_id, " expired")));
  }
  return absl::OkStatus();
}

absl::Status OrchestratorEngine::FinishEvaluations() {
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  if (progress.open_evaluations == 0) return absl::OkStatus();
  MPO_ASSIGN_OR_RETURN(const auto evaluations, ledger_.Evaluations());
  for (const auto& [step, metrics] : evaluations) {
    if (!metrics.empty()) continue;
    MPO_ASSIGN_OR_RETURN(const std::vector<UnitRecord> units,
                         ledger_.Units(WorkKind::kEvaluation, step));
    if (!std::all_of(units.begin(), units.end(), [](const UnitRecord& unit) {
          return unit.state == UnitState::kComplete;
        })) {
      continue;
    }
    MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> samples,
                         ledger_.Samples(WorkKind::kEvaluation, step));
    MPO_RETURN_IF_ERROR(
        ledger_.FinishEvaluation(step, EvaluationMeans(samples)));
  }
  return absl::OkStatus();
}

absl::Status OrchestratorEngine::GateUnscorable() {
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  const int64_t step = progress.committed_step + 1;
  if (progress.assigned_step >= step || gated_step_ >= step ||
      progress.samples_planned == 0 ||
      progress.samples_done < progress.samples_planned) {
    return absl::OkStatus();
  }
  MPO_ASSIGN_OR_RETURN(const StepRecord record, ledger_.FindStep(step));
  if (!record.waived) {
    MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> samples,
                         ledger_.Samples(WorkKind::kTraining, step));
    const double share = UnscorableShare(samples);
    if (share > options_.policy.max_unscorable) {
      return ledger_.SetPaused(
          absl::StrFormat(
              "step %d: %.0f %% of the samples are unscorable, more than "
              "reward.max_unscorable = %.0f %%; nothing is trained on it until "
              "the run is resumed by hand",
              step, 100 * share, 100 * options_.policy.max_unscorable),
          parts_.clock.Wall());
    }
  }
  gated_step_ = step;
  return absl::OkStatus();
}

absl::Status OrchestratorEngine::PlanAhead() {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  MPO_ASSIGN_OR_RETURN(Progress progress, ledger_.ReadProgress());
  for (const int64_t step : EvaluationsToPlan(options_.plan, run, progress)) {
    MPO_RETURN_IF_ERROR(ledger_.PlanEvaluation(
        step, mpo::orchestrator::PlanEvaluation(options_.plan, step),
        parts_.clock.Wall()));
  }
  while (const std::optional<int64_t> step =
             StepToPlan(options_.policy, run, progress)) {
    MPO_RETURN_IF_ERROR(
        ledger_.PlanStep(*step, PlanTraining(options_.plan, order_, *step),
                         options_.monitor_initial, parts_.clock.Wall()));
    progress.planned_step = *step;
  }
  return absl::OkStatus();
}

absl::Status OrchestratorEngine::AnswerLeases(Deferred& deferred) {
  return AnswerWaits<LeaseReply>(
      lease_waits_, cancelled_, parts_.clock.Steady(),
      [this](const LeaseWait& wait)
          ABSL_NO_THREAD_SAFETY_ANALYSIS { return TryLease(wait.member_id); },
      deferred);
}

absl::Status OrchestratorEngine::AnswerBatches(Deferred& deferred) {
  return AnswerWaits<BatchReply>(
      batch_waits_, cancelled_, parts_.clock.Steady(),
      [this](const BatchWait& wait)
          ABSL_NO_THREAD_SAFETY_ANALYSIS { return TryBatch(wait.step); },
      deferred);
}

}  // namespace mpo::orchestrator
