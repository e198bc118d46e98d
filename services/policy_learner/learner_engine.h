// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"
#include "services/policy_learner/checkpoint_store.h"
#include "services/policy_learner/engine_pusher.h"
#include "services/policy_learner/learner_metrics.h"
#include "services/policy_learner/policy_trainer.h"
#include "services/policy_learner/rollout_spool.h"
#include "services/policy_learner/step_ledger.h"
#include "services/policy_learner/weights_publisher.h"

namespace mpo::policy_learner {

struct LearnerStatus {
  int64_t step = 0;  // Last step trained and committed.
  PolicyVersion policy_version = 0;
  std::string phase;  // See GetLearnerStatusResponse.phase.
  int64_t spooled_rollouts = 0;
  std::string weights_sha256;
};

// Trains step after step: takes the batch the orchestrator assigns, waits for
// its rollouts in the spool, updates, checkpoints, publishes, commits. After a
// restart it goes on from the newest checkpoint; steps the orchestrator has
// committed beyond it are trained again, identically. Thread-safe; the loop
// thread alone touches the trainer.
class LearnerEngine {
 public:
  struct Options {
    CheckpointStore::Options checkpoints;
    int checkpoint_every = 1;
    int64_t last_step = 0;  // Of the run; 0 = unknown.
    // Holds the newest version ever published, so that rollouts drawn from it
    // are known after a restart from an older checkpoint.
    std::filesystem::path version_file;
    // Receives the rollouts of each step as step_<6 digits>.jsonl
    // (rollout_lines.h), for replays; empty = they are not recorded.
    std::filesystem::path record;
    // Published weights lie in memory files of these, which actors of this host
    // can map; null = in none.
    std::shared_ptr<weights::MemoryFiles> shared_memory = nullptr;
    // Gets every version, where there is one; must outlive the engine.
    EnginePusher* engines = nullptr;
    absl::Duration poll = absl::Seconds(10);        // Of AssignBatch.
    absl::Duration retry_pause = absl::Seconds(1);  // When it is unavailable.
    // Rollouts arrive before their batch is assigned; after that long they are
    // lost and training ends with DATA_LOSS.
    absl::Duration rollout_deadline = absl::Minutes(1);
  };
  // Turns the bytes of a spool record into a sample.
  using Decoder =
      std::function<absl::StatusOr<TrainingSample>(const std::string&)>;
  using CheckpointCallback =
      std::function<void(absl::StatusOr<CheckpointStore::Checkpoint>)>;

  // Everything referenced must outlive the engine.
  LearnerEngine(Options options, std::unique_ptr<PolicyTrainer> trainer,
                RolloutSpool& spool, Decoder decode, StepLedger& ledger,
                WeightsPublisher& publisher, LearnerMetrics& metrics,
                Clock& clock);
  ~LearnerEngine();

  // Loads the newest checkpoint if there is one and publishes its weights.
  // Errors of CheckpointStore::Newest and PolicyTrainer::Load. Call once,
  // before Start.
  absl::Status Restore();
  // Starts the loop. `on_end` is called from it once: OK when no step is left,
  // else why training stopped, a required inference engine that failed among
  // them. After the end weights are still served.
  void Start(std::function<void(absl::Status)> on_end);
  // Ends the loop after the step in hand, with a checkpoint of it.
  void Stop();

  // Writes a checkpoint between two steps and calls `done` from the loop, or
  // at once with FAILED_PRECONDITION when it does not run. Does not block.
  void SaveCheckpoint(CheckpointCallback done) ABSL_LOCKS_EXCLUDED(mu_);

  LearnerStatus Status() const ABSL_LOCKS_EXCLUDED(mu_);
  // What a submitted sample is checked against now.
  SampleLimits Limits() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop(std::stop_token stop);
  // Trains all steps; OK when none is left or stopped.
  absl::Status TrainAll(std::stop_token stop);
  // The batch of `step`; nullopt when none is left.
  absl::StatusOr<std::optional<std::vector<std::string>>> AwaitBatch(
      int64_t step, std::stop_token stop);
  absl::Status TrainStep(int64_t step, const std::vector<std::string>& keys,
                         std::stop_token stop);
  void Record(int64_t step, const std::vector<TrainingSample>& samples);
  absl::StatusOr<std::vector<TrainingSample>> ReadSamples(
      const std::vector<std::string>& keys);
  // Until the file holds `newest`; without a stop that may come, one try.
  absl::Status RecordVersion(PolicyVersion newest, std::stop_token stop);
  absl::Status Publish(std::stop_token stop);
  absl::Status Commit(std::stop_token stop);
  absl::StatusOr<CheckpointStore::Checkpoint> Checkpoint();
  void ServeCheckpointRequests() ABSL_LOCKS_EXCLUDED(mu_);
  void SetPhase(const char* phase) ABSL_LOCKS_EXCLUDED(mu_);
  bool Pause(std::stop_token stop) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  std::unique_ptr<PolicyTrainer> trainer_;
  RolloutSpool& spool_;
  const Decoder decode_;
  StepLedger& ledger_;
  WeightsPublisher& publisher_;
  LearnerMetrics& metrics_;
  Clock& clock_;
  CheckpointStore checkpoints_;

  // Of the loop thread (and of Restore, before it starts).
  int64_t step_ = 0;
  int64_t saved_step_ = 0;
  StepResult last_result_;  // Of step_; kept for committing it again.
  std::string weights_sha256_;
  bool told_unshared_ = false;

  mutable Mutex mu_;
  CondVar changed_;
  LearnerStatus status_ ABSL_GUARDED_BY(mu_);
  PolicyVersion newest_ever_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<PolicyVersion> written_version_;  // In options_.version_file.
  std::vector<CheckpointCallback> requests_ ABSL_GUARDED_BY(mu_);
  std::stop_source interrupt_ ABSL_GUARDED_BY(mu_);  // Ends the poll under way.
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  std::function<void(absl::Status)> on_end_;
  std::jthread thread_;
};

}  // namespace mpo::policy_learner
