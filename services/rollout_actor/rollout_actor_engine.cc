// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/rollout_actor_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/text/prompt_renderer.h"

namespace mpo::rollout_actor {
namespace {

// How long an actor waits for a change before it looks again.
constexpr absl::Duration kLook = absl::Seconds(5);

}  // namespace

RolloutActorEngine::RolloutActorEngine(UnitTools tools, UnitRunner& runner,
                                       RolloutActorOptions options)
    : tools_(tools),
      runner_(runner),
      options_(options),
      keep_alive_([this](std::stop_token stop) { KeepAlive(stop); }),
      work_([this](std::stop_token stop) { Work(stop); }) {}

RolloutActorEngine::~RolloutActorEngine() { StopThreads(); }

void RolloutActorEngine::StopThreads() {
  // Leases are kept alive until nothing is in hand.
  for (std::jthread* thread : {&work_, &keep_alive_}) {
    thread->request_stop();
    if (thread->joinable()) thread->join();
  }
}

absl::Status RolloutActorEngine::Generate(GenerateJob job,
                                          std::stop_token cancel, Sink sink,
                                          Done done) {
  if (job.prompts.empty()) {
    return absl::InvalidArgumentError("no prompts to generate for");
  }
  MutexLock lock(mu_);
  if (stopping_) return absl::UnavailableError("the actor is stopping");
  if (job_.has_value()) {
    return absl::ResourceExhaustedError("a generate call is already waiting");
  }
  job_ = PendingJob{std::move(job), std::move(cancel), std::move(sink),
                    std::move(done)};
  idle_ = false;
  changed_.NotifyAll();
  return absl::OkStatus();
}

ActorStatus RolloutActorEngine::Status() const {
  ActorStatus status;
  status.policy_version = std::max<PolicyVersion>(tools_.policy.version(), 0);
  status.generated_tokens = runner_.generated_tokens();
  MutexLock lock(mu_);
  status.unit = unit_;
  status.draining = draining_;
  return status;
}

void RolloutActorEngine::Drain() {
  MutexLock lock(mu_);
  draining_ = true;
  changed_.NotifyAll();
}

absl::Status RolloutActorEngine::Finish(absl::Duration deadline) {
  Drain();
  const absl::Time end = absl::Now() + deadline;
  const auto settled = [this](absl::Duration wait) {
    MutexLock lock(mu_);
    return changed_.WaitFor(
        mu_, std::stop_token(), wait,
        [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return idle_; });
  };
  bool done = settled(std::min(options_.hand_back_after, deadline / 2));
  if (!done) {
    {
      MutexLock lock(mu_);
      hand_back_ = true;
    }
    StopWhatIsInHand();
    done = settled(end - absl::Now());
  }
  StopThreads();
  if (done) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("not drained within ", absl::FormatDuration(deadline)));
}

absl::Status RolloutActorEngine::failure() const {
  MutexLock lock(mu_);
  return failure_;
}

void RolloutActorEngine::StopWhatIsInHand() {
  std::stop_source source;
  {
    MutexLock lock(mu_);
    source = in_hand_;
  }
  source.request_stop();  // Runs callbacks: not under the lock.
}

std::stop_token RolloutActorEngine::TakeInHand(const std::string& unit) {
  MutexLock lock(mu_);
  unit_ = unit;
  lost_ = false;
  reporting_ = false;
  in_hand_ = std::stop_source();
  if (hand_back_) in_hand_.request_stop();  // Nobody listens yet.
  return in_hand_.get_token();
}

void RolloutActorEngine::BeginReport() {
  MutexLock lock(mu_);
  reporting_ = true;
}

void RolloutActorEngine::WaitForChange(absl::Duration wait,
                                       std::stop_token stop) {
  MutexLock lock(mu_);
  changed_.WaitFor(mu_, std::move(stop), wait,
                   [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                     return job_.has_value() || draining_;
                   });
}

void RolloutActorEngine::Work(std::stop_token stop) {
  const std::stop_callback chain(stop, [this] { StopWhatIsInHand(); });
  while (!stop.stop_requested()) WorkOnce(stop);
  std::optional<PendingJob> left;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    idle_ = true;
    left.swap(job_);
    changed_.NotifyAll();
  }
  if (left) left->done(absl::UnavailableError("the actor is stopping"));
}

void RolloutActorEngine::WorkOnce(std::stop_token stop) {
  std::optional<PendingJob> job;
  std::string member;
  {
    MutexLock lock(mu_);
    if (job_.has_value()) {
      job.swap(job_);
    } else if (draining_ || !failure_.ok() || member_.empty()) {
      idle_ = draining_ || !failure_.ok();
      changed_.NotifyAll();
      const bool was_draining = draining_;
      const bool joining = !idle_;
      changed_.WaitFor(
          mu_, stop, kLook, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
            return job_.has_value() || draining_ != was_draining ||
                   (joining && (!member_.empty() || !failure_.ok()));
          });
      return;
    }
    member = member_;
  }
  if (job) {
    job->done(Serve(*job, stop));
    return;
  }
  auto leased = tools_.peers.LeaseWork(member, options_.lease_wait, stop);
  if (absl::IsNotFound(leased.status())) return Forget(member);
  if (!leased.ok()) {
    if (stop.stop_requested()) return;
    logging::Warning("no lease", {{"status", leased.status()}});
    return WaitForChange(options_.retry.longest, stop);
  }
  if (leased->finished) return WaitForChange(kLook, stop);
  if (!leased->unit.has_value()) return;
  if (Status().draining) {
    return GiveBack(*leased->unit, absl::UnavailableError("actor is draining"),
                    /*draining=*/true, stop);
  }
  RunUnit(*leased->unit, stop);
}

void RolloutActorEngine::RunUnit(const WorkUnit& unit, std::stop_token stop) {
  const absl::Time start = tools_.clock.Steady();
  const std::stop_token in_hand = TakeInHand(unit.id);
  const auto outcomes = stop.stop_requested() ? absl::CancelledError("stopping")
                                              : runner_.Run(unit, in_hand);
  bool lost = false;
  bool draining = false;
  {
    MutexLock lock(mu_);
    lost = lost_;
    draining = draining_;
  }
  const double seconds = absl::ToDoubleSeconds(tools_.clock.Steady() - start);
  if (outcomes.ok()) {
    Complete(unit, *outcomes, seconds, stop);
  } else if (lost) {
    tools_.metrics.units_lost.Increment();
    logging::Warning("lease lost, unit dropped",
                     {{"unit", unit.id}, {"seconds", seconds}});
  } else if (!stop.stop_requested()) {
    GiveBack(unit,
             draining ? absl::UnavailableError("actor is draining")
                      : outcomes.status(),
             draining, stop);
  }
  {
    MutexLock lock(mu_);
    unit_.clear();
    changed_.NotifyAll();
  }
  if (!outcomes.ok() && !lost) WaitForChange(options_.after_failure, stop);
}

void RolloutActorEngine::Complete(const WorkUnit& unit,
                                  const UnitOutcomes& outcomes, double seconds,
                                  std::stop_token stop) {
  BeginReport();
  const absl::Status status =
      AsMember("CompleteWork", stop, [&](const std::string& id) {
        const absl::Status answer =
            tools_.peers.CompleteWork(id, unit, outcomes, stop);
        // Too old a policy stays too old.
        return absl::IsAborted(answer)
                   ? absl::FailedPreconditionError(answer.message())
                   : answer;
      });
  if (!status.ok()) {
    logging::Error("unit not recorded",
                   {{"unit", unit.id}, {"status", status}});
    return;
  }
  tools_.metrics.units_completed.Increment();
  logging::Info(
      "unit complete",
      {{"unit", unit.id},
       {"step", unit.step},
       {"samples", unit.samples.size()},
       {"policy_version", tools_.policy.version()},
       {"generation_seconds", absl::ToDoubleSeconds(outcomes.generation)},
       {"judging_seconds", absl::ToDoubleSeconds(outcomes.judging)},
       {"seconds", seconds}});
}

void RolloutActorEngine::GiveBack(const WorkUnit& unit, const absl::Status& why,
                                  bool draining, std::stop_token stop) {
  tools_.metrics.units_returned.Increment();
  logging::Warning("unit given back", {{"unit", unit.id}, {"why", why}});
  BeginReport();
  const absl::Status status =
      AsMember("CompleteWork", stop, [&](const std::string& id) {
        return tools_.peers.ReturnWork(id, unit, why.ToString(), draining,
                                       stop);
      });
  if (!status.ok()) {
    logging::Warning("unit left to its lease",
                     {{"unit", unit.id}, {"status", status}});
  }
}

absl::Status RolloutActorEngine::Serve(const PendingJob& pending,
                                       std::stop_token stop) {
  const std::stop_token in_hand = TakeInHand("");
  if (stop.stop_requested()) return absl::UnavailableError("stopping");
  const std::stop_callback chain(pending.cancel,
                                 [this] { StopWhatIsInHand(); });
  const GenerateJob& job = pending.job;
  if (!job.base_model) MPO_RETURN_IF_ERROR(runner_.EnsureWeights(0, in_hand));
  std::vector<generation::GenerationRequest> requests;
  for (size_t i = 0; i < job.prompts.size(); ++i) {
    MPO_ASSIGN_OR_RETURN(
        std::vector<int32_t> tokens,
        text::RenderPrompt(tools_.tokenizer, tools_.chat, job.prompts[i]));
    const int64_t context = tools_.policy.base().model().config().context;
    if (static_cast<int64_t>(tokens.size()) >= context) {
      return absl::InvalidArgumentError(
          absl::StrCat("prompt \"", job.prompts[i].id, "\" has ", tokens.size(),
                       " tokens, the context is ", context));
    }
    requests.push_back({std::to_string(i), std::move(tokens), job.seed + i});
  }
  const PolicyVersion version = job.base_model ? 0 : tools_.policy.version();
  absl::Status status;
  const auto send = [&](const generation::GenerationResult& result) {
    runner_.CountTokens(static_cast<int64_t>(result.tokens.size()));
    size_t index = 0;
    if (in_hand.stop_requested() || !absl::SimpleAtoi(result.id, &index)) {
      return;
    }
    auto text = tools_.tokenizer.Decode(result.tokens);
    status.Update(text.status());
    if (!text.ok()) return;
    pending.sink({job.prompts[index].id, result.tokens, result.logprobs,
                  *std::move(text), result.finish_reason, version});
  };
  MPO_RETURN_IF_ERROR(
      tools_.policy
          .Generate(requests, job.sampling, job.base_model, in_hand, send)
          .status());
  MPO_RETURN_IF_ERROR(status);
  if (in_hand.stop_requested()) return absl::CancelledError("call stopped");
  return absl::OkStatus();
}

}  // namespace mpo::rollout_actor
