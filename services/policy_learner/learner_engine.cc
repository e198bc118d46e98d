// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_engine.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "services/policy_learner/rollout_lines.h"
#include "services/policy_learner/step_result_json.h"

namespace mpo::policy_learner {
namespace {

bool Transient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsResourceExhausted(status) ||
         absl::IsAborted(status);
}

}  // namespace

LearnerEngine::LearnerEngine(Options options,
                             std::unique_ptr<PolicyTrainer> trainer,
                             RolloutSpool& spool, Decoder decode,
                             StepLedger& ledger, WeightsPublisher& publisher,
                             LearnerMetrics& metrics, Clock& clock)
    : options_(std::move(options)),
      trainer_(std::move(trainer)),
      spool_(spool),
      decode_(std::move(decode)),
      ledger_(ledger),
      publisher_(publisher),
      metrics_(metrics),
      clock_(clock),
      checkpoints_(options_.checkpoints) {
  trainer_->OnPhase([this](const char* phase) { SetPhase(phase); });
}

LearnerEngine::~LearnerEngine() { Stop(); }

absl::Status LearnerEngine::Restore() {
  SetPhase("idle");
  MPO_ASSIGN_OR_RETURN(const auto newest, checkpoints_.Newest());
  if (newest.has_value()) {
    MPO_RETURN_IF_ERROR(trainer_->Load(newest->path));
    MPO_ASSIGN_OR_RETURN(last_result_, ReadStepResult(newest->path));
    step_ = saved_step_ = newest->step;
    logging::Info("checkpoint loaded", {{"step", step_}});
  }
  if (std::filesystem::exists(options_.version_file)) {
    MPO_ASSIGN_OR_RETURN(const std::string text,
                         ReadFile(options_.version_file, 64));
    MutexLock lock(mu_);
    if (!absl::SimpleAtoi(text, &newest_ever_) || newest_ever_ < 0) {
      return absl::DataLossError(absl::StrCat(options_.version_file.string(),
                                              ": expected a policy version"));
    }
    written_version_ = newest_ever_;
  }
  MPO_RETURN_IF_ERROR(spool_.DropThrough(checkpoints_.OldestStep()));
  return Publish(std::stop_token());
}

void LearnerEngine::Start(std::function<void(absl::Status)> on_end) {
  on_end_ = std::move(on_end);
  {
    MutexLock lock(mu_);
    running_ = true;
  }
  thread_ = std::jthread([this](std::stop_token stop) { Loop(stop); });
}

void LearnerEngine::Stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void LearnerEngine::Loop(std::stop_token stop) {
  absl::Status status = TrainAll(stop);
  // First of all: who stops the process may not wait for engines.
  const bool trained = status.ok();
  if (trained && saved_step_ != step_) status = Checkpoint().status();
  if (trained && options_.engines != nullptr)
    status.Update(options_.engines->Finish(stop));
  if (!status.ok()) logging::Error("training stopped", {{"error", status}});
  SetPhase("idle");
  std::vector<CheckpointCallback> requests;
  {
    MutexLock lock(mu_);
    running_ = false;
    requests.swap(requests_);
  }
  for (const auto& done : requests) {
    done(absl::FailedPreconditionError("training has ended"));
  }
  if (on_end_) on_end_(status);
}

absl::Status LearnerEngine::TrainAll(std::stop_token stop) {
  // The process may have died between checkpoint and commit.
  if (step_ > 0) MPO_RETURN_IF_ERROR(Commit(stop));
  while (!stop.stop_requested()) {
    MPO_ASSIGN_OR_RETURN(const auto keys, AwaitBatch(step_ + 1, stop));
    if (stop.stop_requested()) break;
    if (!keys.has_value()) {
      logging::Info("no step is left", {{"step", step_}});
      break;
    }
    MPO_RETURN_IF_ERROR(TrainStep(step_ + 1, *keys, stop));
    ServeCheckpointRequests();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<std::string>>>
LearnerEngine::AwaitBatch(int64_t step, std::stop_token stop) {
  SetPhase("wait");
  while (!stop.stop_requested()) {
    std::stop_source interrupt;
    {
      MutexLock lock(mu_);
      interrupt_ = interrupt;
      if (!requests_.empty()) interrupt.request_stop();
    }
    const std::stop_callback on_stop(stop, [&] { interrupt.request_stop(); });
    auto assigned =
        ledger_.AssignBatch(step, options_.poll, interrupt.get_token());
    ServeCheckpointRequests();
    if (!assigned.ok()) {
      if (!Transient(assigned.status())) return assigned.status();
      if (interrupt.stop_requested()) continue;
      logging::Warning("no batch assigned yet",
                       {{"step", step}, {"error", assigned.status()}});
      if (!Pause(stop)) break;
      continue;
    }
    if (assigned->finished) return std::nullopt;
    if (assigned->sample_keys.has_value()) return assigned->sample_keys;
  }
  return std::nullopt;
}

bool LearnerEngine::Pause(std::stop_token stop) {
  MutexLock lock(mu_);
  changed_.WaitFor(mu_, stop, options_.retry_pause, [] { return false; });
  return !stop.stop_requested();
}

absl::StatusOr<std::vector<TrainingSample>> LearnerEngine::ReadSamples(
    const std::vector<std::string>& keys) {
  std::vector<TrainingSample> samples;
  for (const std::string& key : keys) {
    MPO_ASSIGN_OR_RETURN(const std::string bytes, spool_.Read(key));
    MPO_ASSIGN_OR_RETURN(TrainingSample sample, decode_(bytes));
    for (const TokenSpan& span : sample.rollout.spans) {
      metrics_.staleness.Observe(
          static_cast<double>(step_ - span.policy_version));
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

void LearnerEngine::Record(int64_t step,
                           const std::vector<TrainingSample>& samples) {
  if (options_.record.empty()) return;
  std::string lines;
  for (const TrainingSample& sample : samples) lines += ToJsonLine(sample);
  std::error_code error;
  std::filesystem::create_directories(options_.record, error);
  const absl::Status written = WriteFileAtomically(
      options_.record / absl::StrFormat("step_%06d.jsonl", step), lines);
  // A record is no reason to stop.
  if (!written.ok()) {
    logging::Error("rollouts not recorded",
                   {{"step", step}, {"error", written}});
  }
}

absl::Status LearnerEngine::TrainStep(int64_t step,
                                      const std::vector<std::string>& keys,
                                      std::stop_token stop) {
  const absl::Time began = clock_.Steady();
  for (;;) {
    const absl::Status arrived = spool_.WaitFor(keys, stop, options_.poll);
    if (arrived.ok()) break;
    if (stop.stop_requested()) return absl::OkStatus();
    if (clock_.Steady() - began >= options_.rollout_deadline) {
      return absl::DataLossError(absl::StrCat(
          "step ", step, ": ", std::string(arrived.message()),
          ", although the orchestrator has them recorded: the spool lost "
          "them, or the checkpoints that cover them are gone. Bring back the "
          "learner's directory from a copy, or begin a new run directory"));
    }
    logging::Warning("rollouts are missing",
                     {{"step", step}, {"error", arrived}});
    ServeCheckpointRequests();
  }
  MPO_ASSIGN_OR_RETURN(const auto samples, ReadSamples(keys));
  const auto since = [&](absl::Time from) {
    return absl::ToDoubleSeconds(clock_.Steady() - from);
  };
  const double waited = since(began);
  Record(step, samples);
  MPO_ASSIGN_OR_RETURN(last_result_, trainer_->Train(step, samples));
  step_ = step;
  last_result_.seconds["wait"] = waited;
  const absl::Time publishing = clock_.Steady();
  SetPhase("publish");
  if (step_ % options_.checkpoint_every == 0) {
    // Before the version is out: nobody may hold weights a restart cannot make
    // again.
    SetPhase("checkpoint");
    const absl::Time saving = clock_.Steady();
    const auto saved = Checkpoint();
    if (!saved.ok()) {
      // Training goes on; the spool keeps what the checkpoint would cover.
      metrics_.checkpoint_failures.Increment();
      logging::Error("checkpoint not written",
                     {{"step", step_}, {"error", saved.status()}});
    }
    last_result_.seconds["checkpoint"] = since(saving);
    SetPhase("publish");
  }
  const absl::Status published = Publish(stop);
  // Neither published nor committed: the checkpoint of the stop has the step.
  if (absl::IsCancelled(published) && stop.stop_requested())
    return absl::OkStatus();
  MPO_RETURN_IF_ERROR(published);
  last_result_.seconds["publish"] =
      since(publishing) - last_result_.seconds["checkpoint"];
  for (const auto& [phase, seconds] : last_result_.seconds) {
    metrics_.RecordPhase(phase, seconds);
  }
  metrics_.RecordStep(step_, last_result_.metrics);
  metrics_.spooled.Set(static_cast<double>(spool_.size()));
  return Commit(stop);
}

absl::Status LearnerEngine::RecordVersion(PolicyVersion newest,
                                          std::stop_token stop) {
  while (written_version_ != newest) {
    const absl::Status status =
        WriteFileAtomically(options_.version_file, absl::StrCat(newest));
    if (status.ok()) {
      written_version_ = newest;
      break;
    }
    if (!stop.stop_possible() || !Transient(status)) return status;
    metrics_.version_failures.Increment();
    // Weights go out only once a restart would know of them.
    logging::Warning("policy version not recorded yet",
                     {{"version", newest}, {"error", status}});
    ServeCheckpointRequests();
    if (!Pause(stop)) {
      return absl::CancelledError(absl::StrCat("version ", newest, ": ",
                                               std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

absl::Status LearnerEngine::Publish(std::stop_token stop) {
  const absl::Time began = clock_.Steady();
  const PolicyModel& model = trainer_->model();
  MPO_ASSIGN_OR_RETURN(auto published,
                       weights::PublishedWeights::Create(
                           step_, model.kind(), model.adapter_config(),
                           model.Weights(), {.files = options_.shared_memory}));
  if (!published->sharing().ok() && !std::exchange(told_unshared_, true)) {
    logging::Warning("weights go over the network to all actors",
                     {{"error", published->sharing()}});
  }
  weights_sha256_ = published->sha256();
  PolicyVersion newest = 0;
  {
    MutexLock lock(mu_);
    newest_ever_ = newest = std::max(newest_ever_, step_);
  }
  MPO_RETURN_IF_ERROR(RecordVersion(newest, stop));
  {
    MutexLock lock(mu_);
    status_.policy_version = step_;
    status_.weights_sha256 = weights_sha256_;
  }
  publisher_.Publish(published);
  metrics_.weights_version.Set(static_cast<double>(step_));
  metrics_.weights_published.Increment();
  metrics_.weights_publish_seconds.Observe(
      absl::ToDoubleSeconds(clock_.Steady() - began));
  if (options_.engines == nullptr) return absl::OkStatus();
  return options_.engines->Push(published);
}

absl::Status LearnerEngine::Commit(std::stop_token stop) {
  for (;;) {
    const absl::Status status =
        ledger_.CommitStep(step_, weights_sha256_, last_result_.metrics,
                           last_result_.seconds, stop);
    if (status.ok()) break;
    if (!Transient(status)) {
      return absl::Status(
          status.code(),
          absl::StrCat("commit of step ", step_, " with weights ",
                       weights_sha256_,
                       " was refused: ", std::string(status.message())));
    }
    // The checkpoint has the step; it is committed at the next start.
    if (stop.stop_requested()) return absl::OkStatus();
    logging::Warning("step not committed yet",
                     {{"step", step_}, {"error", status}});
    if (!Pause(stop)) return absl::OkStatus();
  }
  logging::Info("step committed",
                {{"step", step_}, {"weights_sha256", weights_sha256_}});
  MutexLock lock(mu_);
  status_.step = step_;
  return absl::OkStatus();
}

absl::StatusOr<CheckpointStore::Checkpoint> LearnerEngine::Checkpoint() {
  const absl::Time began = clock_.Steady();
  const uint64_t bytes = trainer_->CheckpointBytes();
  MPO_ASSIGN_OR_RETURN(
      auto checkpoint,
      checkpoints_.Write(step_, bytes, [&](const std::filesystem::path& path) {
        MPO_RETURN_IF_ERROR(trainer_->Save(path));
        return WriteStepResult(last_result_, path);
      }));
  saved_step_ = step_;
  metrics_.checkpoint_timestamp.SetToCurrentTime();
  metrics_.checkpoint_bytes.Set(static_cast<double>(bytes));
  logging::Info("checkpoint written",
                {{"step", step_},
                 {"seconds", absl::ToDoubleSeconds(clock_.Steady() - began)}});
  if (absl::Status dropped = spool_.DropThrough(checkpoints_.OldestStep());
      !dropped.ok()) {
    logging::Warning("spool segment stays", {{"error", dropped}});
  }
  return checkpoint;
}

void LearnerEngine::SaveCheckpoint(CheckpointCallback done) {
  std::stop_source interrupt;
  bool running = false;
  {
    MutexLock lock(mu_);
    running = running_;
    interrupt = interrupt_;
    if (running) requests_.push_back(done);
  }
  if (!running)
    return done(absl::FailedPreconditionError("training has ended"));
  interrupt.request_stop();
}

void LearnerEngine::ServeCheckpointRequests() {
  std::vector<CheckpointCallback> requests;
  {
    MutexLock lock(mu_);
    requests.swap(requests_);
  }
  if (requests.empty()) return;
  SetPhase("checkpoint");
  const auto checkpoint = Checkpoint();
  SetPhase("wait");
  for (const auto& done : requests) done(checkpoint);
}

void LearnerEngine::SetPhase(const char* phase) {
  MutexLock lock(mu_);
  status_.phase = phase;
}

LearnerStatus LearnerEngine::Status() const {
  const int64_t spooled = spool_.size();
  MutexLock lock(mu_);
  LearnerStatus status = status_;
  status.spooled_rollouts = spooled;
  return status;
}

SampleLimits LearnerEngine::Limits() const {
  const model::ModelConfig& config = trainer_->model().reference().config();
  MutexLock lock(mu_);
  return {.vocabulary = config.vocab_size,
          .context = config.context,
          .hidden = config.hidden_size,
          .trunk_layer = trainer_->model().trunk_layers(),
          .newest_version = newest_ever_,
          .last_step = options_.last_step};
}

}  // namespace mpo::policy_learner
