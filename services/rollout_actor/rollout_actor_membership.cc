// SPDX-License-Identifier: Apache-2.0
// The engine's place in the run: joining, renewing, losing a lease.
#include <algorithm>
#include <utility>

#include "mpo/logging/log.h"
#include "services/rollout_actor/rollout_actor_engine.h"

namespace mpo::rollout_actor {

std::string RolloutActorEngine::member() const {
  MutexLock lock(mu_);
  return member_;
}

void RolloutActorEngine::Forget(const std::string& member) {
  MutexLock lock(mu_);
  if (member_ == member) member_.clear();
  changed_.NotifyAll();
}

absl::Status RolloutActorEngine::AsMember(
    const char* what, std::stop_token stop,
    const std::function<absl::Status(const std::string&)>& call) {
  return TryUntil(what, options_.retry, stop, [&]() -> absl::Status {
    const std::string id = member();
    if (id.empty()) return absl::UnavailableError("not a member yet");
    const absl::Status status = call(id);
    if (!absl::IsNotFound(status)) return status;
    Forget(id);
    return absl::UnavailableError("membership lapsed");
  });
}

void RolloutActorEngine::KeepAlive(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const std::string id = member();
    if (id.empty()) {
      Join(stop);
      if (!failure().ok()) return;
    } else {
      Renew(id, stop);
    }
    MutexLock lock(mu_);
    changed_.WaitFor(mu_, stop, options_.heartbeat,
                     [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                       return member_.empty();
                     });
  }
}

void RolloutActorEngine::Join(std::stop_token stop) {
  Membership membership;
  const absl::Status status =
      TryUntil("Register", options_.retry, stop, [&]() -> absl::Status {
        auto answer = tools_.peers.Register(stop);
        if (answer.ok()) membership = *std::move(answer);
        return answer.status();
      });
  if (!status.ok() && stop.stop_requested()) return;
  if (status.ok()) {
    logging::Info("joined the run", {{"member", membership.member_id}});
  } else {
    logging::Error("the orchestrator does not take this actor",
                   {{"status", status}});
  }
  MutexLock lock(mu_);
  if (status.ok()) {
    member_ = membership.member_id;
  } else {
    failure_ = status;
  }
  changed_.NotifyAll();
}

void RolloutActorEngine::Renew(const std::string& member,
                               std::stop_token stop) {
  std::vector<std::string> units;
  {
    MutexLock lock(mu_);
    if (!unit_.empty()) units = {unit_};
  }
  const auto lost = tools_.peers.Heartbeat(
      member, units, std::max<PolicyVersion>(tools_.policy.version(), 0), stop);
  if (absl::IsNotFound(lost.status())) return Forget(member);
  if (!lost.ok()) {
    if (stop.stop_requested()) return;
    logging::Warning("heartbeat failed", {{"status", lost.status()}});
    return;
  }
  {
    MutexLock lock(mu_);
    if (unit_.empty() || reporting_ ||
        std::find(lost->begin(), lost->end(), unit_) == lost->end()) {
      return;
    }
    lost_ = true;
  }
  tools_.metrics.lease_expired.Increment();
  StopWhatIsInHand();
}

}  // namespace mpo::rollout_actor
