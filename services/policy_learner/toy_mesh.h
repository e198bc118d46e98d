// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <prometheus/registry.h>

#include "services/policy_learner/learner_engine.h"
#include "services/policy_learner/toy_task.h"

namespace mpo::policy_learner {

// Orchestrator and actor of the toy task in one: a batch is drawn from the
// newest published weights and put into the spool when it is asked for.
class ToyLedger final : public StepLedger {
 public:
  ToyLedger(int64_t steps, RolloutSpool& spool, WeightsPublisher& publisher)
      : steps_(steps), spool_(spool), publisher_(publisher) {}

  absl::StatusOr<StepAssignment> AssignBatch(int64_t step, absl::Duration wait,
                                             std::stop_token stop) override;
  absl::Status CommitStep(int64_t step, const std::string& weights_sha256,
                          const std::map<std::string, double>& metrics,
                          const std::map<std::string, double>& seconds,
                          std::stop_token stop) override;

  std::map<int64_t, std::string> committed;  // Digest by step.
  std::map<std::string, double> metrics;     // Of the last commit.
  std::function<void(int64_t)> on_commit;    // After each new commit.
  bool hold = false;    // No batch is complete until told to stop.
  int unavailable = 0;  // Calls that fail before one succeeds.
  int64_t lose = 0;     // Step of whose rollouts one never arrives.

 private:
  const int64_t steps_;
  RolloutSpool& spool_;
  WeightsPublisher& publisher_;
};

// A learner over a run directory, as main() wires it but without a server.
struct ToyLearner {
  // `steps` of the plan; the ledger remembers `committed` of a former life.
  ToyLearner(const std::filesystem::path& run, int64_t steps,
             const TrainerOptions& options, int checkpoint_every = 1,
             std::map<int64_t, std::string> committed = {},
             EnginePusher* engines = nullptr);
  ~ToyLearner();

  void Start();
  // Waits until training has ended; its status.
  absl::Status Wait();

  prometheus::Registry registry;
  LearnerMetrics metrics{registry};
  WeightsPublisher publisher;
  std::unique_ptr<RolloutSpool> spool;
  std::unique_ptr<ToyLedger> ledger;
  std::unique_ptr<LearnerEngine> engine;
  absl::Status restored;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<absl::Status> end_;
};

// The policy that `published` holds.
PolicyModel PolicyOf(const weights::PublishedWeights& published,
                     const TrainerOptions& options);

}  // namespace mpo::policy_learner
