// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/engine_pusher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"

namespace mpo::policy_learner {
namespace {

// A wait that only a stop request or a notification ends.
constexpr absl::Duration kForever = absl::Hours(24 * 365);
constexpr absl::Duration kAfterStop = absl::Seconds(20);

}  // namespace

absl::StatusOr<std::unique_ptr<EnginePusher>> EnginePusher::Create(
    std::vector<InferenceEngine> engines, const std::filesystem::path& model,
    std::shared_ptr<const model::LanguageModel> base, LearnerMetrics& metrics) {
  std::unique_ptr<EnginePusher> pusher(new EnginePusher(metrics));
  for (InferenceEngine& engine : engines) {
    auto& directories = pusher->directories_[engine.directory];
    if (directories == nullptr) {
      MPO_ASSIGN_OR_RETURN(
          directories, ModelDirectories::Create({.directory = engine.directory,
                                                 .kept = engine.kept,
                                                 .dtype = engine.dtype,
                                                 .model = model},
                                                base));
    }
    auto lane = std::make_unique<Lane>();
    lane->engine = std::move(engine);
    lane->directories = directories.get();
    pusher->lanes_.push_back(std::move(lane));
  }
  for (const auto& lane : pusher->lanes_) {
    lane->thread =
        std::jthread([&pusher = *pusher, &lane = *lane](std::stop_token stop) {
          pusher.Run(lane, stop);
        });
  }
  return pusher;
}

EnginePusher::~EnginePusher() {
  for (const auto& lane : lanes_) lane->thread.request_stop();
}

absl::Status EnginePusher::Push(const Published& published) {
  const PolicyVersion version = published->version();
  MutexLock lock(mu_);
  for (const auto& lane : lanes_) {
    if (version == 0 || version % lane->engine.every != 0) continue;
    if (std::exchange(lane->pending, published) != nullptr) {
      metrics_.engine_pushes_skipped.Increment();
    }
  }
  changed_.NotifyAll();
  return failure_;
}

absl::Status EnginePusher::Finish(std::stop_token stop) {
  MutexLock lock(mu_);
  const auto done = [&] {
    return std::none_of(lanes_.begin(), lanes_.end(), [](const auto& lane) {
      return lane->busy || lane->pending != nullptr;
    });
  };
  if (!changed_.WaitFor(mu_, stop, kForever, done)) {
    if (!changed_.WaitFor(mu_, std::stop_token(), kAfterStop, done)) {
      logging::Warning("engines did not take the last version in time",
                       {{"seconds", absl::ToInt64Seconds(kAfterStop)}});
    }
  }
  return failure_;
}

void EnginePusher::Run(Lane& lane, std::stop_token stop) {
  while (!stop.stop_requested()) {
    Published published;
    {
      MutexLock lock(mu_);
      if (!changed_.WaitFor(mu_, stop, kForever,
                            [&] { return lane.pending != nullptr; })) {
        return;
      }
      published = std::exchange(lane.pending, nullptr);
      lane.busy = true;
    }
    Bring(lane, published, stop);
    MutexLock lock(mu_);
    lane.busy = false;
    changed_.NotifyAll();
  }
}

void EnginePusher::Bring(const Lane& lane, const Published& published,
                         std::stop_token stop) {
  const InferenceEngine& engine = lane.engine;
  const PolicyVersion version = published->version();
  const absl::Time began = absl::Now();
  const auto directory = lane.directories->Write(published);
  absl::Status status = directory.status();
  if (status.ok()) {
    status = LoadInto(engine, *directory, version, stop);
    lane.directories->Release(version);
  }
  if (stop.stop_requested()) return;
  const double seconds = absl::ToDoubleSeconds(absl::Now() - began);
  if (status.ok()) {
    metrics_.engine_pushes_loaded.Increment();
    metrics_.engine_push_seconds.Observe(seconds);
    logging::Info("engine has the weights", {{"engine", engine.name()},
                                             {"policy_version", version},
                                             {"seconds", seconds}});
    return;
  }
  metrics_.engine_pushes_failed.Increment();
  logging::Error("engine did not get the weights", {{"engine", engine.name()},
                                                    {"policy_version", version},
                                                    {"error", status}});
  if (!engine.required) return;
  MutexLock lock(mu_);
  if (!failure_.ok()) return;
  failure_ =
      absl::Status(status.code(),
                   absl::StrCat("the required engine ", engine.name(),
                                " did not get the weights of version ", version,
                                ": ", std::string(status.message())));
}

}  // namespace mpo::policy_learner
