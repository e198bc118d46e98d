// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mpo/base/mutex.h"
#include "mpo/types/rollout.h"
#include "services/rollout_actor/unit_runner.h"

namespace mpo::rollout_actor {

struct RolloutActorOptions {
  absl::Duration heartbeat = absl::Seconds(3);
  // One request for work waits this long at most; a Generate call that comes
  // meanwhile waits as long.
  absl::Duration lease_wait = absl::Seconds(2);
  // A unit that is not finished so long after Finish is called is given back.
  absl::Duration hand_back_after = absl::Seconds(10);
  // Pause after a unit had to be given back.
  absl::Duration after_failure = absl::Seconds(1);
  RetryPolicy retry;
};

// Generation outside the plan.
struct GenerateJob {
  std::vector<Prompt> prompts;
  SamplingOptions sampling;
  uint64_t seed = 0;        // Prompt i uses seed + i.
  bool base_model = false;  // Adapter off.
};

struct GeneratedResponse {
  std::string prompt_id;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::string text;
  FinishReason finish_reason = FinishReason::kFailed;
  PolicyVersion policy_version = 0;
};

struct ActorStatus {
  PolicyVersion policy_version = 0;
  std::string unit;  // In hand; empty = idle.
  int64_t generated_tokens = 0;
  bool draining = false;
};

// The actor: joins the run, leases units, makes them and reports them, and
// serves Generate calls between units. Two threads: one generates, one keeps
// the membership and the leases alive. Every public method is thread-safe and
// none but Finish and the destructor waits for a thread.
class RolloutActorEngine {
 public:
  using Sink = std::function<void(GeneratedResponse)>;
  using Done = std::function<void(absl::Status)>;

  // `runner` and what `tools` borrows must outlive the engine. Starts the
  // threads.
  RolloutActorEngine(UnitTools tools, UnitRunner& runner,
                     RolloutActorOptions options);
  // Stops at once; a unit in hand is left to its lease.
  ~RolloutActorEngine();
  RolloutActorEngine(const RolloutActorEngine&) = delete;
  RolloutActorEngine& operator=(const RolloutActorEngine&) = delete;

  // Queues a job. `sink` sees each response when it is finished and `done` the
  // end, both on the generating thread; `cancel` stops the job. Returns, and
  // then calls neither: INVALID_ARGUMENT without prompts, RESOURCE_EXHAUSTED
  // when a job waits already, UNAVAILABLE when stopping. `done` may see
  // INVALID_ARGUMENT for a prompt that is malformed or fills the context.
  absl::Status Generate(GenerateJob job, std::stop_token cancel, Sink sink,
                        Done done);

  ActorStatus Status() const;

  // Leases no more; the unit in hand is finished. Returns at once.
  void Drain();

  // Drains, gives the unit in hand back where it takes too long, and stops the
  // threads within `deadline`. DEADLINE_EXCEEDED when that cut something off.
  absl::Status Finish(absl::Duration deadline);

  // Why the actor cannot take part in the run; OK while it can.
  absl::Status failure() const;

 private:
  struct PendingJob {
    GenerateJob job;
    std::stop_token cancel;
    Sink sink;
    Done done;
  };

  // The generating thread.
  void Work(std::stop_token stop);
  void WorkOnce(std::stop_token stop);
  void RunUnit(const WorkUnit& unit, std::stop_token stop);
  void Complete(const WorkUnit& unit, const UnitOutcomes& outcomes,
                double seconds, std::stop_token stop);
  void GiveBack(const WorkUnit& unit, const absl::Status& why, bool draining,
                std::stop_token stop);
  absl::Status Serve(const PendingJob& pending, std::stop_token stop);
  // Tries until `call` is answered for the membership of the moment.
  absl::Status AsMember(
      const char* what, std::stop_token stop,
      const std::function<absl::Status(const std::string&)>& call);
  std::stop_token TakeInHand(const std::string& unit);
  void BeginReport();
  void WaitForChange(absl::Duration wait, std::stop_token stop);
  // The other one.
  void KeepAlive(std::stop_token stop);
  void Join(std::stop_token stop);
  void Renew(const std::string& member, std::stop_token stop);

  void StopWhatIsInHand();
  void StopThreads();
  void Forget(const std::string& member);
  std::string member() const;

  const UnitTools tools_;
  UnitRunner& runner_;
  const RolloutActorOptions options_;

  mutable Mutex mu_;
  CondVar changed_;
  std::string member_ ABSL_GUARDED_BY(mu_);        // Empty: not a member.
  std::string unit_ ABSL_GUARDED_BY(mu_);          // In hand.
  std::stop_source in_hand_ ABSL_GUARDED_BY(mu_);  // Of the unit or job.
  bool lost_ ABSL_GUARDED_BY(mu_) = false;         // Its lease is another's.
  // Its outcome is being reported; a lease that ends now is not lost.
  bool reporting_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool hand_back_ ABSL_GUARDED_BY(mu_) = false;  // Finish ran out of patience.
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool idle_ ABSL_GUARDED_BY(mu_) = false;  // Drained, nothing in hand.
  std::optional<PendingJob> job_ ABSL_GUARDED_BY(mu_);
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  std::jthread keep_alive_;
  std::jthread work_;
};

}  // namespace mpo::rollout_actor
