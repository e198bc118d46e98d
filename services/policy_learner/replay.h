// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/config/v1/config.pb.h"
#include "services/policy_learner/policy_trainer.h"

namespace mpo::policy_learner {

// Learner updates on recorded rollouts, without a mesh.
struct ReplayOptions {
  config::v1::RunConfig config;  // policy, learner, run.seed and run.steps.
  // A file of rollout lines, or a folder whose *.jsonl are read in the order of
  // their names, such as the folder a run with learner.record_rollouts fills.
  std::filesystem::path rollouts;
  // Receives metrics.jsonl and the checkpoint step_<last>; must not hold either
  // yet.
  std::filesystem::path output;
  // Checkpoint to begin from; its steps are skipped. Empty: the untrained
  // policy.
  std::filesystem::path checkpoint;
  int64_t last_step = 0;  // Later ones are skipped; 0 = none.
};

struct ReplayedStep {
  int64_t step = 0;
  StepResult result = {};
  // Digest of the weights after the step; equal to the ledger's where the
  // rollouts are those of a run of this configuration.
  std::string weights_sha256 = {};
};
using ReplaySink = std::function<void(const ReplayedStep&)>;

// One object with step, weights_sha256, metrics and seconds, on one line.
std::string ToJsonLine(const ReplayedStep& step);

// Trains on each step's samples in the order given and tells each step.
// INVALID_ARGUMENT: steps that do not ascend, or what ValidateSample refuses;
// nothing is trained then. Errors of PolicyTrainer::Train.
absl::Status ReplaySteps(PolicyTrainer& trainer,
                         const std::vector<TrainingSample>& samples,
                         const ReplaySink& on_step);

// The whole of it; what is refused leaves no output behind. Besides:
// ALREADY_EXISTS for an output that is not empty; errors of ParseRolloutLines,
// of the model's and of the checkpoint's loading; INVALID_ARGUMENT when no step
// is left to train.
absl::Status Replay(const ReplayOptions& options, const ReplaySink& on_step);

}  // namespace mpo::policy_learner
