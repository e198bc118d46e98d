// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/base/bounded_queue.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"
#include "mpo/judge/judge.h"
#include "mpo/types/rubric.h"
#include "mpo/types/verdict.h"
#include "services/reward_server/reward_metrics.h"

namespace mpo::reward_server {

// Where rubrics come from that nobody installed. Thread-safe.
class RubricSource {
 public:
  virtual ~RubricSource() = default;
  // NOT_FOUND: nobody knows it. UNAVAILABLE: the source does not answer.
  virtual absl::StatusOr<Rubric> Fetch(const std::string& sha256,
                                       std::stop_token stop) = 0;
};

// One batch to be judged.
struct ScoreTask {
  std::vector<std::string> keys;  // Of the samples, unique.
  std::vector<judge::JudgeItem> items;
  std::string rubric_sha256;
  std::string monitor_sha256;  // Empty = no monitor.
  // Called once for each item, then `on_done` once; from a thread of the
  // engine, never two at a time.
  std::function<void(const std::string& key, const Verdict& verdict,
                     const std::optional<Verdict>& monitor)>
      on_verdict;
  std::function<void(const absl::Status&)> on_done;
  std::stop_token stop;  // The caller is gone.
};

struct RewardEngineOptions {
  int workers = 4;           // Batches judged at a time.
  int queue = 64;            // Batches that may wait.
  bool needs_checks = true;  // The judge reads checks only (embedded).
};

// Judges batches with rubrics addressed by their SHA-256. Holds rubrics in
// memory and nothing else. Thread-safe.
class RewardEngine {
 public:
  // All must outlive the engine.
  RewardEngine(judge::Judge& judge, RubricSource& source,
               RewardMetrics& metrics, Clock& clock,
               const RewardEngineOptions& options);
  ~RewardEngine();

  // Returns the rubric's SHA-256. INVALID_ARGUMENT: not valid, or of no use to
  // this judge; every problem is listed.
  absl::StatusOr<std::string> Install(const Rubric& rubric)
      ABSL_LOCKS_EXCLUDED(mu_);
  // NOT_FOUND: not installed.
  absl::StatusOr<Rubric> Find(const std::string& sha256) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // Queues a batch. INVALID_ARGUMENT: no items, a key twice or empty, no
  // rubric named. RESOURCE_EXHAUSTED: the queue is full. UNAVAILABLE: stopped.
  // `on_done` is called only after OK: OK; FAILED_PRECONDITION, a rubric is
  // not known; UNAVAILABLE, the source of rubrics does not answer; CANCELLED.
  absl::Status Submit(ScoreTask task);

  // Running batches end as cancelled. Safe to call twice.
  void Stop();

 private:
  void Work(std::stop_token stop);
  absl::Status Run(const ScoreTask& task, std::stop_token stop);
  absl::StatusOr<Rubric> Obtain(const std::string& sha256,
                                std::stop_token stop);
  std::vector<Verdict> Judge(const Rubric& rubric, const std::string& sha256,
                             const ScoreTask& task, std::stop_token stop);

  judge::Judge& judge_;
  RubricSource& source_;
  RewardMetrics& metrics_;
  Clock& clock_;
  const RewardEngineOptions options_;
  mutable Mutex mu_;
  std::map<std::string, Rubric> rubrics_ ABSL_GUARDED_BY(mu_);
  BoundedQueue<std::shared_ptr<ScoreTask>> queue_;
  std::vector<std::jthread> workers_;  // Last: they use the members above.
};

}  // namespace mpo::reward_server
