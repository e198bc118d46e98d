// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/refinement_engine.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "mpo/logging/log.h"

namespace mpo::meta_reward_server {

// One refinement. Everything but `request` and `stop` belongs to the engine's
// mutex.
struct RefinementEngine::Job {
  RefinementRequest request;
  std::stop_source stop;
  std::map<int64_t, RefinementListener> listeners;
  std::optional<RefinementProposal> proposal;
};

namespace {

absl::Status CheckRequest(const RefinementRequest& request) {
  if (request.id.empty()) {
    return absl::InvalidArgumentError("refinement_id must not be empty");
  }
  if (request.recent.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "refinement ", request.id, ": no recent responses as evidence"));
  }
  if (request.rubric.criteria.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "refinement ", request.id, ": the active rubric has no criteria"));
  }
  return absl::OkStatus();
}

bool Same(const RefinementRequest& a, const RefinementRequest& b) {
  return a.task == b.task && a.step == b.step && a.rubric == b.rubric &&
         a.baseline.size() == b.baseline.size() &&
         a.recent.size() == b.recent.size() && a.memory == b.memory;
}

}  // namespace

RefinementEngine::RefinementEngine(Refiner& refiner,
                                   RefinementEngineOptions options,
                                   MetaRewardMetrics& metrics, Clock& clock)
    : refiner_(refiner),
      options_(options),
      metrics_(metrics),
      clock_(clock),
      worker_([this](std::stop_token stop) { Work(std::move(stop)); }) {}

RefinementEngine::~RefinementEngine() {
  Stop();
  worker_.request_stop();
}

absl::StatusOr<int64_t> RefinementEngine::Start(RefinementRequest request,
                                                RefinementListener listener) {
  if (absl::Status status = CheckRequest(request); !status.ok()) return status;
  std::shared_ptr<Job> job;
  {
    MutexLock lock(mu_);
    if (stopped_)
      return absl::UnavailableError("meta-reward server is stopping");
    const auto known = jobs_.find(request.id);
    if (known != jobs_.end()) {
      job = known->second;
      if (!Same(job->request, request)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "refinement id ", request.id, " belongs to another request (task ",
            job->request.task, ", step ", job->request.step, ")"));
      }
      metrics_.joined.Increment();
    } else {
      if (queue_.size() >= options_.queue_capacity) {
        return absl::ResourceExhaustedError(
            absl::StrCat("refinement ", request.id, ": ", queue_.size(),
                         " refinements are waiting already"));
      }
      job = std::make_shared<Job>();
      job->request = std::move(request);
      jobs_[job->request.id] = job;
      queue_.push_back(job);
      metrics_.in_flight.Increment();
      changed_.NotifyAll();
    }
    const int64_t ticket = ++last_ticket_;
    if (!job->proposal.has_value()) {
      job->listeners.emplace(ticket, std::move(listener));
      by_ticket_[ticket] = job;
      return ticket;
    }
  }
  // A finished job never changes, so it can be read without the lock.
  listener.done(*job->proposal);
  return int64_t{0};
}

void RefinementEngine::Leave(int64_t ticket) {
  MutexLock lock(mu_);
  const auto it = by_ticket_.find(ticket);
  if (it == by_ticket_.end()) return;
  const std::shared_ptr<Job> job = it->second;
  by_ticket_.erase(it);
  job->listeners.erase(ticket);
  if (!job->listeners.empty() || job->proposal.has_value()) return;
  // Nobody waits: a later call with this id starts afresh.
  job->stop.request_stop();
  Forget(job);
  const auto queued = std::find(queue_.begin(), queue_.end(), job);
  if (queued != queue_.end()) {
    queue_.erase(queued);
    metrics_.in_flight.Decrement();
  }
}

void RefinementEngine::Stop() {
  std::vector<RefinementListener> waiting;
  {
    MutexLock lock(mu_);
    stopped_ = true;
    for (const auto& [ticket, job] : by_ticket_) {
      job->stop.request_stop();
      const auto it = job->listeners.find(ticket);
      if (it != job->listeners.end()) waiting.push_back(std::move(it->second));
      job->listeners.erase(ticket);
    }
    by_ticket_.clear();
    metrics_.in_flight.Decrement(static_cast<double>(queue_.size()));
    queue_.clear();
    jobs_.clear();
  }
  for (const RefinementListener& listener : waiting) {
    listener.done(absl::UnavailableError("meta-reward server is stopping"));
  }
}

void RefinementEngine::Forget(const std::shared_ptr<Job>& job) {
  const auto it = jobs_.find(job->request.id);
  if (it != jobs_.end() && it->second == job) jobs_.erase(it);
}

std::shared_ptr<RefinementEngine::Job> RefinementEngine::NextJob(
    std::stop_token stop) {
  MutexLock lock(mu_);
  while (!stop.stop_requested()) {
    if (!queue_.empty()) {
      std::shared_ptr<Job> job = std::move(queue_.front());
      queue_.pop_front();
      return job;
    }
    changed_.WaitFor(
        mu_, stop, absl::Hours(1),
        [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !queue_.empty(); });
  }
  return nullptr;
}

void RefinementEngine::Work(std::stop_token stop) {
  while (std::shared_ptr<Job> job = NextJob(stop)) {
    const absl::Time begin = clock_.Steady();
    auto result = refiner_.Refine(
        job->request,
        [&](const RefinementProgress& progress) { Publish(job, progress); },
        job->stop.get_token());
    metrics_.Finished(result, clock_.Steady() - begin);
    metrics_.in_flight.Decrement();
    if (result.ok()) {
      logging::Info("refinement finished",
                    {{"refinement_id", job->request.id},
                     {"step", job->request.step},
                     {"changes", result->changes.size()},
                     {"criteria", result->rubric.criteria.size()}});
    } else {
      logging::Warning("refinement failed", {{"refinement_id", job->request.id},
                                             {"step", job->request.step},
                                             {"status", result.status()}});
    }
    Finish(job, std::move(result));
  }
}

void RefinementEngine::Publish(const std::shared_ptr<Job>& job,
                               const RefinementProgress& progress) {
  std::vector<ProgressSink> sinks;
  {
    MutexLock lock(mu_);
    for (const auto& [ticket, listener] : job->listeners) {
      if (listener.progress) sinks.push_back(listener.progress);
    }
  }
  for (const ProgressSink& sink : sinks) sink(progress);
}

void RefinementEngine::Finish(const std::shared_ptr<Job>& job,
                              absl::StatusOr<RefinementProposal> result) {
  std::map<int64_t, RefinementListener> listeners;
  {
    MutexLock lock(mu_);
    listeners.swap(job->listeners);
    for (const auto& [ticket, listener] : listeners) by_ticket_.erase(ticket);
    const auto known = jobs_.find(job->request.id);
    const bool abandoned = known == jobs_.end() || known->second != job;
    if (result.ok() && !abandoned) {
      job->proposal = *result;
      finished_.push_back(job);
      if (finished_.size() > options_.remembered) {
        Forget(finished_.front());
        finished_.pop_front();
      }
    } else {
      Forget(job);
    }
  }
  for (const auto& [ticket, listener] : listeners) listener.done(result);
}

}  // namespace mpo::meta_reward_server
