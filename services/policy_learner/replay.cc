// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/replay.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/digest.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/config/run_config.h"
#include "mpo/logging/log.h"
#include "mpo/weights/published_weights.h"
#include "nlohmann/json.hpp"
#include "services/policy_learner/checkpoint_store.h"
#include "services/policy_learner/load_trainer.h"
#include "services/policy_learner/rollout_lines.h"

namespace mpo::policy_learner {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

absl::StatusOr<std::vector<TrainingSample>> ReadRollouts(const fs::path& path) {
  std::vector<fs::path> files = {path};
  std::error_code error;
  if (fs::is_directory(path, error)) {
    files.clear();
    for (const auto& entry : fs::directory_iterator(path, error)) {
      if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    if (files.empty()) {
      return absl::NotFoundError(
          absl::StrCat(path.string(), ": expected *.jsonl, found none"));
    }
  }
  std::vector<TrainingSample> samples;
  std::set<std::string> keys;
  for (const fs::path& file : files) {
    MPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
    MPO_ASSIGN_OR_RETURN(std::vector<TrainingSample> some,
                         ParseRolloutLines(text, file.string()));
    for (const TrainingSample& sample : some) {
      if (keys.insert(sample.rollout.sample_key).second) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(file.string(), ": sample_key \"",
                       sample.rollout.sample_key, "\" is in another file too"));
    }
    std::move(some.begin(), some.end(), std::back_inserter(samples));
  }
  return samples;
}

absl::Status CheckSamples(const std::vector<TrainingSample>& samples,
                          const model::ModelConfig& config) {
  int64_t step = 0;
  for (const TrainingSample& sample : samples) {
    const Rollout& rollout = sample.rollout;
    MPO_RETURN_IF_ERROR(
        ValidateSample(sample, {.vocabulary = config.vocab_size,
                                .context = config.context,
                                .newest_version = rollout.step - 1}));
    if (rollout.step < step) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rollout '", rollout.sample_key, "' is of step ", rollout.step,
          " and comes after one of step ", step, "; sort them by step"));
    }
    step = rollout.step;
  }
  return absl::OkStatus();
}

// A run's weights come only from all of its steps; rollouts of one's own may
// be numbered as they like.
void WarnOfGaps(const std::vector<TrainingSample>& samples, int64_t before) {
  for (const TrainingSample& sample : samples) {
    const int64_t step = sample.rollout.step;
    if (step > before + 1) {
      logging::Warning(
          "no rollouts of the steps between: the weights will not be the run's",
          {{"after", before}, {"next", step}});
    }
    before = step;
  }
}

// Creates nothing: a replay that is refused leaves nothing behind.
absl::Status CheckOutput(const fs::path& output) {
  std::error_code error;
  if (!fs::exists(output, error) && !error) return absl::OkStatus();
  if (!error && fs::is_empty(output, error) && fs::is_directory(output, error))
    return absl::OkStatus();
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat(output.string(), ": ", error.message()));
  }
  return absl::AlreadyExistsError(absl::StrCat(
      output.string(), ": expected an empty folder; give another one"));
}

absl::Status MakeOutput(const fs::path& output) {
  std::error_code error;
  fs::create_directories(output, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(output.string(), ": ", error.message()));
}

}  // namespace

std::string ToJsonLine(const ReplayedStep& step) {
  const Json json = {{"step", step.step},
                     {"weights_sha256", step.weights_sha256},
                     {"metrics", step.result.metrics},
                     {"seconds", step.result.seconds}};
  return json.dump() + "\n";
}

absl::Status ReplaySteps(PolicyTrainer& trainer,
                         const std::vector<TrainingSample>& samples,
                         const ReplaySink& on_step) {
  MPO_RETURN_IF_ERROR(
      CheckSamples(samples, trainer.model().reference().config()));
  for (auto begin = samples.begin(); begin != samples.end();) {
    ReplayedStep replayed{.step = begin->rollout.step};
    const auto end =
        std::find_if(begin, samples.end(), [&](const TrainingSample& one) {
          return one.rollout.step != replayed.step;
        });
    MPO_ASSIGN_OR_RETURN(replayed.result,
                         trainer.Train(replayed.step, {begin, end}));
    const PolicyModel& model = trainer.model();
    MPO_ASSIGN_OR_RETURN(const auto weights,
                         weights::PublishedWeights::Create(
                             replayed.step, model.kind(),
                             model.adapter_config(), model.Weights()));
    replayed.weights_sha256 = weights->sha256();
    on_step(replayed);
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status Replay(const ReplayOptions& options, const ReplaySink& on_step) {
  MPO_RETURN_IF_ERROR(CheckOutput(options.output));
  MPO_ASSIGN_OR_RETURN(std::vector<TrainingSample> samples,
                       ReadRollouts(options.rollouts));
  CheckpointStore::Checkpoint from;
  if (!options.checkpoint.empty()) {
    MPO_ASSIGN_OR_RETURN(from, CheckpointStore::Read(options.checkpoint));
  }
  std::erase_if(samples, [&](const TrainingSample& sample) {
    const int64_t step = sample.rollout.step;
    return (!options.checkpoint.empty() && step <= from.step) ||
           (options.last_step > 0 && step > options.last_step);
  });
  if (samples.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.rollouts.string(), ": no rollout of a step after ", from.step,
        options.last_step > 0 ? absl::StrCat(" and up to ", options.last_step)
                              : std::string()));
  }
  MPO_ASSIGN_OR_RETURN(auto trainer,
                       LoadTrainer(options.config, Clock::Real()));
  if (!from.path.empty()) MPO_RETURN_IF_ERROR(trainer->Load(from.path));
  MPO_RETURN_IF_ERROR(
      CheckSamples(samples, trainer->model().reference().config()));
  WarnOfGaps(samples, from.step);
  MPO_RETURN_IF_ERROR(MakeOutput(options.output));
  const fs::path metrics_path = options.output / "metrics.jsonl";
  std::ofstream metrics(metrics_path);
  MPO_RETURN_IF_ERROR(
      ReplaySteps(*trainer, samples, [&](const ReplayedStep& step) {
        metrics << ToJsonLine(step) << std::flush;
        on_step(step);
      }));
  CheckpointStore store({.directory = options.output,
                         .config_sha256 = config::Sha256Of(options.config)});
  MPO_RETURN_IF_ERROR(
      store
          .Write(samples.back().rollout.step, 0,
                 [&](const fs::path& path) { return trainer->Save(path); })
          .status());
  if (metrics) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(metrics_path.string(),
                                             ": could not be written; the "
                                             "checkpoint beside it was"));
}

}  // namespace mpo::policy_learner
