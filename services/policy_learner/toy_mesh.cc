// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/toy_mesh.h"

#include <torch/torch.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/weights/assembler.h"
#include "services/policy_learner/wire.h"

namespace mpo::policy_learner {

absl::StatusOr<StepAssignment> ToyLedger::AssignBatch(int64_t step,
                                                      absl::Duration,
                                                      std::stop_token stop) {
  if (unavailable > 0) {
    --unavailable;
    return absl::UnavailableError("not up yet");
  }
  if (step > steps_) return StepAssignment{std::nullopt, true};
  if (hold) {
    Mutex mu;
    CondVar never;
    MutexLock lock(mu);
    never.WaitFor(mu, stop, absl::Minutes(1), [] { return false; });
    return absl::CancelledError("stopped");
  }
  if (step > 1 && !committed.contains(step - 1)) {
    return absl::FailedPreconditionError(
        absl::StrCat("step ", step - 1, " was never committed"));
  }
  const PolicyModel policy = PolicyOf(*publisher_.newest(), ToyTask::Options());
  StepAssignment assignment;
  assignment.sample_keys.emplace();
  std::vector<SpoolRecord> records;
  for (const TrainingSample& sample : ToyTask::Sample(policy, step, 1)) {
    const Rollout& rollout = sample.rollout;
    assignment.sample_keys->push_back(rollout.sample_key);
    if (step == lose && records.empty()) {
      lose = 0;
      continue;
    }
    records.push_back({rollout.sample_key, rollout.step,
                       ToProto(sample).SerializeAsString()});
  }
  MPO_RETURN_IF_ERROR(spool_.Append(records).status());
  return assignment;
}

absl::Status ToyLedger::CommitStep(int64_t step,
                                   const std::string& weights_sha256,
                                   const std::map<std::string, double>& of_step,
                                   const std::map<std::string, double>&,
                                   std::stop_token) {
  const auto [it, added] = committed.try_emplace(step, weights_sha256);
  if (it->second != weights_sha256) {
    return absl::FailedPreconditionError("committed with other weights");
  }
  metrics = of_step;
  if (added && on_commit) on_commit(step);
  return absl::OkStatus();
}

ToyLearner::ToyLearner(const std::filesystem::path& run, int64_t steps,
                       const TrainerOptions& options, int checkpoint_every,
                       std::map<int64_t, std::string> committed,
                       EnginePusher* engines) {
  spool = *RolloutSpool::Open({.directory = run / "spool"});
  ledger = std::make_unique<ToyLedger>(steps, *spool, publisher);
  ledger->committed = std::move(committed);
  LearnerEngine::Options engine_options;
  engine_options.checkpoints.directory = run / "checkpoints";
  engine_options.checkpoints.config_sha256 = "config-one";
  engine_options.checkpoint_every = checkpoint_every;
  engine_options.version_file = run / "version";
  engine_options.record = run / "rollouts";
  engine_options.engines = engines;
  engine_options.poll = absl::Milliseconds(1);
  engine_options.retry_pause = absl::Milliseconds(1);
  engine_options.rollout_deadline = absl::Milliseconds(1);
  engine = std::make_unique<LearnerEngine>(
      engine_options,
      *PolicyTrainer::Create(ToyTask::Model(), options, Clock::Real()), *spool,
      SampleFromBytes, *ledger, publisher, metrics, Clock::Real());
  restored = engine->Restore();
}

ToyLearner::~ToyLearner() { engine->Stop(); }

void ToyLearner::Start() {
  engine->Start([this](absl::Status status) {
    const std::lock_guard lock(mutex_);
    end_ = std::move(status);
    ended_.notify_all();
  });
}

absl::Status ToyLearner::Wait() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return end_.has_value(); });
  return *end_;
}

PolicyModel PolicyOf(const weights::PublishedWeights& published,
                     const TrainerOptions& options) {
  auto assembler = weights::Assembler::Create(published.manifest());
  for (int i = 0; i < published.chunk_count(); ++i) {
    assembler->Add(published.chunk(i)).IgnoreError();
  }
  auto policy = PolicyModel::Create(ToyTask::Model(), options.lora, 99);
  const auto tensors =
      assembler->Commit(published.version(), published.chunk_count());
  CopyByName(*tensors, policy->Weights(), "published").IgnoreError();
  return *std::move(policy);
}

}  // namespace mpo::policy_learner
