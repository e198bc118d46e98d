// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/base/mutex.h"
#include "mpo/model/language_model.h"
#include "services/policy_learner/inference_engine.h"
#include "services/policy_learner/learner_metrics.h"
#include "services/policy_learner/model_directories.h"

namespace mpo::policy_learner {

// Brings published versions to inference engines beside training: one thread
// an engine, which always goes on with the newest version that is due. An
// engine that is slow skips versions, one that fails is logged and counted and
// gets the next. Thread-safe.
class EnginePusher {
 public:
  using Published = ModelDirectories::Published;

  // `model` is the policy's directory, `base` its weights; `metrics` must
  // outlive the pusher. UNAVAILABLE when a directory cannot be written to.
  static absl::StatusOr<std::unique_ptr<EnginePusher>> Create(
      std::vector<InferenceEngine> engines, const std::filesystem::path& model,
      std::shared_ptr<const model::LanguageModel> base,
      LearnerMetrics& metrics);
  // Cuts requests under way off.
  ~EnginePusher();
  EnginePusher(const EnginePusher&) = delete;
  EnginePusher& operator=(const EnginePusher&) = delete;

  // Hands a version to the engines for which it is due; version 0, which the
  // engines have, is due for none. Does not block. The first error of a
  // required engine so far, for the run to end with; OK while there is none.
  absl::Status Push(const Published& published);

  // Waits until every engine has got, or failed to get, what was pushed, after
  // a stop request 20 s at most; returns as Push.
  absl::Status Finish(std::stop_token stop);

 private:
  // An engine with what it is still to get. The mutex is the pusher's.
  struct Lane {
    InferenceEngine engine;
    ModelDirectories* directories = nullptr;
    Published pending;
    bool busy = false;
    std::jthread thread;
  };

  explicit EnginePusher(LearnerMetrics& metrics) : metrics_(metrics) {}
  void Run(Lane& lane, std::stop_token stop);
  void Bring(const Lane& lane, const Published& published,
             std::stop_token stop);

  LearnerMetrics& metrics_;
  std::map<std::filesystem::path, std::unique_ptr<ModelDirectories>>
      directories_;
  Mutex mu_;
  CondVar changed_;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);  // Of a required engine.
  std::vector<std::unique_ptr<Lane>> lanes_;   // Last: holds the threads.
};

}  // namespace mpo::policy_learner
