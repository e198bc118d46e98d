// SPDX-License-Identifier: Apache-2.0
// Members, leases and results of the engine.
#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "services/orchestrator/orchestrator_engine.h"

namespace mpo::orchestrator {
namespace {

constexpr absl::Duration kLongestWait = absl::Seconds(60);

absl::Duration Bounded(absl::Duration wait) {
  return std::clamp(wait, absl::ZeroDuration(), kLongestWait);
}

absl::Status CheckVerdict(const std::string& key, const char* which,
                          const Verdict& verdict, const std::string& rubric) {
  if (!verdict.scored) return absl::OkStatus();
  if (verdict.rubric_sha256 != rubric) {
    return absl::InvalidArgumentError(
        absl::StrCat("sample ", key, ": ", which, " is under rubric ",
                     verdict.rubric_sha256, ", expected ", rubric));
  }
  bool finite = std::isfinite(verdict.raw) && std::isfinite(verdict.reward) &&
                std::isfinite(verdict.maximum);
  for (const CriterionScore& score : verdict.criteria) {
    finite = finite && std::isfinite(score.score) &&
             std::isfinite(score.minimum) && std::isfinite(score.maximum);
  }
  if (!finite) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sample ", key, ": ", which, " holds a number that is not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckOutcome(const Outcome& outcome, const WorkUnit& unit) {
  const std::string& key = outcome.sample_key;
  MPO_RETURN_IF_ERROR(
      CheckVerdict(key, "verdict", outcome.verdict, unit.rubric_sha256));
  if (outcome.monitor.has_value()) {
    MPO_RETURN_IF_ERROR(CheckVerdict(key, "monitor verdict", *outcome.monitor,
                                     unit.monitor_rubric_sha256));
  }
  const bool generated = outcome.finish_reason == FinishReason::kStop ||
                         outcome.finish_reason == FinishReason::kLength;
  if (!generated && outcome.verdict.scored) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sample ", key, ": generation ", Name(outcome.finish_reason),
        " but the verdict is scored"));
  }
  if (generated && outcome.policy_version < unit.min_policy_version) {
    return absl::AbortedError(
        absl::StrCat("sample ", key, ": generated with policy version ",
                     outcome.policy_version, ", expected at least ",
                     unit.min_policy_version));
  }
  if (outcome.response_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sample ", key, ": response_tokens is ", outcome.response_tokens));
  }
  if (outcome.base && !(std::isfinite(outcome.base->mean_logprob) &&
                        std::isfinite(outcome.base->worst_window_surprise) &&
                        std::isfinite(outcome.base->subject_gain))) {
    return absl::InvalidArgumentError(
        absl::StrCat("sample ", key, ": base statistics are not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckOutcomes(const Completion& completion, const WorkUnit& unit) {
  std::set<std::string> expected;
  for (const Sample& sample : unit.samples) expected.insert(sample.key);
  for (const Outcome& outcome : completion.outcomes) {
    if (expected.erase(outcome.sample_key) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("unit ", unit.id, ": sample ", outcome.sample_key,
                       " is not one of it, or is given twice"));
    }
    MPO_RETURN_IF_ERROR(CheckOutcome(outcome, unit));
  }
  if (!expected.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("unit ", unit.id, ": expected ", unit.samples.size(),
                     " outcomes, got ", completion.outcomes.size(), "; sample ",
                     *expected.begin(), " is missing"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Registration> OrchestratorEngine::Register(
    const MemberRecord& member, const std::string& config_sha256) {
  if (member.name.empty() || member.role.empty() ||
      member.incarnation.empty()) {
    return absl::InvalidArgumentError(
        "a member needs a name, a role and an incarnation");
  }
  if (!config_sha256.empty() && config_sha256 != options_.config_sha256) {
    return absl::FailedPreconditionError(absl::StrCat(
        member.name, " runs config_sha256 ", config_sha256, ", expected ",
        options_.config_sha256, ": start it with the run's configuration"));
  }
  MutexLock lock(mu_);
  MemberRecord record = member;
  // The same process keeps its id, and with it its leases, over a restart of
  // the orchestrator.
  record.id = absl::StrCat(member.name, "#", member.incarnation);
  if (!members_.contains(record.id)) {
    MPO_RETURN_IF_ERROR(ledger_.PutMember(record));
    std::erase_if(members_, [&](const auto& entry) {
      return entry.second.record.name == record.name;
    });
    // The process that held these is gone: no need to wait for the expiry.
    const std::string prefix = absl::StrCat(member.name, "#");
    std::vector<std::pair<std::string, int64_t>> orphans;
    for (const auto& [unit, lease] : leases_) {
      if (lease.member_id != record.id &&
          lease.member_id.rfind(prefix, 0) == 0) {
        orphans.emplace_back(unit, lease.epoch);
      }
    }
    for (const auto& [unit, epoch] : orphans) {
      MPO_RETURN_IF_ERROR(GiveBack(
          unit, epoch, absl::StrCat(member.name, " was started again")));
    }
  }
  members_[record.id] = {record, parts_.clock.Steady() + options_.member_ttl};
  Changed();
  return Registration{.member_id = record.id,
                      .ttl = options_.member_ttl,
                      .run_id = options_.plan.run};
}

void OrchestratorEngine::Renew(const std::string& member_id) {
  const auto member = members_.find(member_id);
  if (member == members_.end()) return;
  member->second.expiry = parts_.clock.Steady() + options_.member_ttl;
}

absl::StatusOr<std::vector<std::string>> OrchestratorEngine::Heartbeat(
    const std::string& member_id, const std::vector<std::string>& held) {
  MutexLock lock(mu_);
  ExpireMembers();
  if (!members_.contains(member_id)) {
    return absl::NotFoundError(absl::StrCat(
        "member ", member_id, " is unknown or expired; register again"));
  }
  Renew(member_id);
  std::vector<std::string> lost;
  for (const std::string& unit : held) {
    const auto lease = leases_.find(unit);
    if (lease == leases_.end() || lease->second.member_id != member_id) {
      lost.push_back(unit);
    } else {
      lease->second.expiry = parts_.clock.Steady() + options_.lease;
    }
  }
  return lost;
}

uint64_t OrchestratorEngine::LeaseWork(const std::string& member_id,
                                       absl::Duration wait, LeaseDone done) {
  MutexLock lock(mu_);
  Renew(member_id);
  const uint64_t id = next_id_++;
  lease_waits_[id] = {member_id, parts_.clock.Steady() + Bounded(wait),
                      std::move(done)};
  Changed();
  return id;
}

void OrchestratorEngine::CancelWait(uint64_t wait_id) {
  MutexLock lock(mu_);
  if (!lease_waits_.contains(wait_id) && !batch_waits_.contains(wait_id)) {
    return;
  }
  cancelled_.insert(wait_id);
  Changed();
}

absl::StatusOr<std::optional<LeaseReply>> OrchestratorEngine::TryLease(
    const std::string& member_id) {
  MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
  MPO_ASSIGN_OR_RETURN(const Progress progress, ledger_.ReadProgress());
  if (IsFinished(options_.plan, run, progress)) {
    return LeaseReply{.finished = true};
  }
  if (!members_.contains(member_id)) {
    return absl::NotFoundError(absl::StrCat(
        "member ", member_id, " is unknown or expired; register again"));
  }
  if (run.paused) return std::nullopt;
  const absl::Time now = parts_.clock.Steady();
  MPO_ASSIGN_OR_RETURN(const std::vector<UnitRecord> units,
                       ledger_.OpenUnits());
  for (const UnitRecord& unit : units) {
    if (unit.state != UnitState::kReady) continue;
    const auto pause = not_before_.find(unit.id);
    if (pause != not_before_.end() && pause->second > now) continue;
    MPO_ASSIGN_OR_RETURN(
        const int64_t epoch,
        ledger_.GrantUnit(unit.id, member_id, parts_.clock.Wall()));
    leases_[unit.id] = {.epoch = epoch,
                        .member_id = member_id,
                        .kind = unit.kind,
                        .expiry = now + options_.lease};
    not_before_.erase(unit.id);
    parts_.metrics.lease_grants.Increment();
    MPO_ASSIGN_OR_RETURN(WorkUnit work, ledger_.ReadUnit(unit.id));
    work.sampling = options_.plan.sampling;
    return LeaseReply{.unit = std::move(work), .lease = options_.lease};
  }
  return std::nullopt;
}

absl::Status OrchestratorEngine::GiveBack(const std::string& unit,
                                          int64_t epoch,
                                          const std::string& detail,
                                          bool failed) {
  MPO_ASSIGN_OR_RETURN(
      const int64_t failures,
      ledger_.ReleaseUnit(unit, epoch, detail, failed, parts_.clock.Wall()));
  const auto lease = leases_.find(unit);
  if (lease == leases_.end() || lease->second.epoch != epoch) {
    return absl::OkStatus();
  }
  leases_.erase(lease);
  Changed();
  if (failures > options_.max_failures) {
    return ledger_.SetPaused(absl::StrCat("unit ", unit, " failed ", failures,
                                          " times; the last time: ", detail),
                             parts_.clock.Wall());
  }
  return absl::OkStatus();
}

absl::Status OrchestratorEngine::CheckGrant(const Completion& completion) {
  MPO_ASSIGN_OR_RETURN(
      const std::optional<std::string> holder,
      ledger_.GrantedTo(completion.unit_id, completion.lease_epoch));
  if (holder == completion.member_id) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "lease epoch ", completion.lease_epoch, " of unit ", completion.unit_id,
      " was never granted to ", completion.member_id,
      holder.has_value() ? absl::StrCat(" but to ", *holder) : ""));
}

absl::StatusOr<Ledger::Recorded> OrchestratorEngine::CompleteWork(
    const Completion& completion) {
  WorkUnit unit;
  std::string initial;
  {
    MutexLock lock(mu_);
    Renew(completion.member_id);
    MPO_RETURN_IF_ERROR(CheckGrant(completion));
    if (completion.failure.has_value()) {
      if (!completion.draining) parts_.metrics.units_failed.Increment();
      MPO_RETURN_IF_ERROR(GiveBack(completion.unit_id, completion.lease_epoch,
                                   *completion.failure, !completion.draining));
      if (completion.draining) return Ledger::Recorded{};
      MPO_ASSIGN_OR_RETURN(const UnitRecord record,
                           ledger_.FindUnit(completion.unit_id));
      not_before_[record.id] =
          parts_.clock.Steady() +
          RetryPause(options_.retry_pause, record.failures);
      Changed();
      return Ledger::Recorded{};
    }
    MPO_ASSIGN_OR_RETURN(unit, ledger_.ReadUnit(completion.unit_id));
    MPO_ASSIGN_OR_RETURN(const RunRecord run, ledger_.Run());
    initial = run.initial_rubric;
  }
  MPO_RETURN_IF_ERROR(CheckOutcomes(completion, unit));
  std::map<std::string, const Prompt*> prompts;
  for (const Sample& sample : unit.samples) {
    prompts[sample.key] = &sample.prompt;
  }
  std::vector<MeasuredOutcome> measured;
  int64_t unscorable = 0;
  for (const Outcome& outcome : completion.outcomes) {
    MeasuredOutcome one{.outcome = outcome};
    one.proxy = ProxyOf(outcome, initial);
    const bool generated = outcome.finish_reason == FinishReason::kStop ||
                           outcome.finish_reason == FinishReason::kLength;
    if (generated && outcome.base.has_value() && parts_.gold) {
      one.gold = parts_.gold(*prompts[outcome.sample_key], outcome.text,
                             *outcome.base);
    }
    if (!outcome.verdict.scored) ++unscorable;
    measured.push_back(std::move(one));
  }
  MutexLock lock(mu_);
  MPO_ASSIGN_OR_RETURN(
      const Ledger::Recorded recorded,
      ledger_.RecordOutcomes(unit.id, completion.lease_epoch, measured,
                             completion.generation_seconds,
                             completion.judging_seconds));
  const auto lease = leases_.find(unit.id);
  if (lease != leases_.end()) {
    leases_.erase(lease);
  }
  not_before_.erase(unit.id);
  parts_.metrics.samples_recorded.Increment(
      static_cast<double>(recorded.recorded));
  parts_.metrics.dedupe_hits.Increment(
      static_cast<double>(recorded.duplicates));
  if (recorded.recorded > 0) {
    parts_.metrics.samples_unscorable.Increment(
        static_cast<double>(unscorable));
  }
  Changed();
  return recorded;
}

}  // namespace mpo::orchestrator
