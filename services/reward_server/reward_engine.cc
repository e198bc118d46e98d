// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/reward_engine.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "mpo/judge/rubric_problems.h"
#include "mpo/logging/log.h"
#include "mpo/rubric/rubric_yaml.h"

namespace mpo::reward_server {
namespace {

absl::Status CheckTask(const ScoreTask& task) {
  if (task.items.empty() || task.items.size() != task.keys.size()) {
    return absl::InvalidArgumentError("items: expected at least one, got none");
  }
  if (task.rubric_sha256.empty()) {
    return absl::InvalidArgumentError("rubric_sha256: expected one, got none");
  }
  std::set<std::string> seen;
  for (const std::string& key : task.keys) {
    if (key.empty() || !seen.insert(key).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "sample_key: expected each once, got \"", key, "\" again or empty"));
    }
  }
  return absl::OkStatus();
}

// Requests the stop of `to` when either of two is stopped.
class EitherStop {
 public:
  EitherStop(std::stop_token a, std::stop_token b)
      : on_a_(std::move(a), [this] { source_.request_stop(); }),
        on_b_(std::move(b), [this] { source_.request_stop(); }) {}
  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  std::stop_callback<std::function<void()>> on_a_;
  std::stop_callback<std::function<void()>> on_b_;
};

}  // namespace

RewardEngine::RewardEngine(judge::Judge& judge, RubricSource& source,
                           RewardMetrics& metrics, Clock& clock,
                           const RewardEngineOptions& options)
    : judge_(judge),
      source_(source),
      metrics_(metrics),
      clock_(clock),
      options_(options),
      queue_(static_cast<size_t>(std::max(1, options.queue))) {
  for (int i = 0; i < std::max(1, options.workers); ++i) {
    workers_.emplace_back([this](std::stop_token stop) { Work(stop); });
  }
}

RewardEngine::~RewardEngine() { Stop(); }

void RewardEngine::Stop() {
  queue_.Close();
  for (std::jthread& worker : workers_) worker.request_stop();
  for (std::jthread& worker : workers_) {
    if (worker.joinable()) worker.join();
  }
}

absl::StatusOr<std::string> RewardEngine::Install(const Rubric& rubric) {
  const std::vector<std::string> problems =
      judge::RubricProblems(rubric, options_.needs_checks);
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  }
  const std::string sha256 = rubric::Sha256Of(rubric);
  MutexLock lock(mu_);
  rubrics_.emplace(sha256, rubric);
  metrics_.Rubrics(rubrics_.size());
  return sha256;
}

absl::StatusOr<Rubric> RewardEngine::Find(const std::string& sha256) const {
  MutexLock lock(mu_);
  const auto found = rubrics_.find(sha256);
  if (found == rubrics_.end()) {
    return absl::NotFoundError(absl::StrCat("no rubric ", sha256));
  }
  return found->second;
}

absl::StatusOr<Rubric> RewardEngine::Obtain(const std::string& sha256,
                                            std::stop_token stop) {
  if (absl::StatusOr<Rubric> known = Find(sha256); known.ok()) return known;
  absl::StatusOr<Rubric> fetched = source_.Fetch(sha256, stop);
  if (absl::IsNotFound(fetched.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("rubric ", sha256,
                     " is neither installed nor known to the orchestrator"));
  }
  MPO_RETURN_IF_ERROR(fetched.status());
  if (rubric::Sha256Of(*fetched) != sha256) {
    return absl::FailedPreconditionError(absl::StrCat(
        "asked for rubric ", sha256, ", got ", rubric::Sha256Of(*fetched)));
  }
  const absl::StatusOr<std::string> installed = Install(*fetched);
  if (!installed.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "rubric ", sha256, ": ", std::string(installed.status().message())));
  }
  logging::Info("rubric installed", {{"rubric", sha256}});
  return fetched;
}

absl::Status RewardEngine::Submit(ScoreTask task) {
  MPO_RETURN_IF_ERROR(CheckTask(task));
  if (workers_.front().get_stop_token().stop_requested()) {
    return absl::UnavailableError("the reward server is stopping");
  }
  if (!queue_.TryPush(std::make_shared<ScoreTask>(std::move(task)))) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the queue of ", options_.queue, " batches is full; try later"));
  }
  metrics_.QueueDepth(queue_.size());
  return absl::OkStatus();
}

void RewardEngine::Work(std::stop_token stop) {
  while (const std::optional<std::shared_ptr<ScoreTask>> task = queue_.Pop()) {
    metrics_.QueueDepth(queue_.size());
    const absl::Time began = clock_.Steady();
    const absl::Status status = Run(**task, stop);
    metrics_.Batch(clock_.Steady() - began, (*task)->items.size());
    if (!status.ok()) {
      logging::Warning("batch not judged", {{"status", status}});
    }
    (*task)->on_done(status);
  }
}

std::vector<Verdict> RewardEngine::Judge(const Rubric& rubric,
                                         const std::string& sha256,
                                         const ScoreTask& task,
                                         std::stop_token stop) {
  std::vector<Verdict> verdicts(task.items.size());
  judge_.Score(rubric, task.items, stop, [&](size_t i, Verdict verdict) {
    verdict.rubric_sha256 = sha256;
    metrics_.Judged(verdict);
    verdicts[i] = std::move(verdict);
  });
  return verdicts;
}

absl::Status RewardEngine::Run(const ScoreTask& task, std::stop_token stop) {
  const EitherStop either(stop, task.stop);
  MPO_ASSIGN_OR_RETURN(const Rubric rubric,
                       Obtain(task.rubric_sha256, either.token()));
  std::optional<Rubric> monitor;
  if (!task.monitor_sha256.empty() &&
      task.monitor_sha256 != task.rubric_sha256) {
    MPO_ASSIGN_OR_RETURN(monitor, Obtain(task.monitor_sha256, either.token()));
  }
  const std::vector<Verdict> verdicts =
      Judge(rubric, task.rubric_sha256, task, either.token());
  // Under the same rubric the answer is the same: it is not asked for twice.
  const std::vector<Verdict> monitors =
      monitor.has_value()
          ? Judge(*monitor, task.monitor_sha256, task, either.token())
          : verdicts;
  // Verdicts of a batch that was stopped say nothing of the responses.
  if (either.token().stop_requested()) return absl::CancelledError("stopped");
  for (size_t i = 0; i < verdicts.size(); ++i) {
    std::optional<Verdict> second;
    if (!task.monitor_sha256.empty()) second = monitors[i];
    task.on_verdict(task.keys[i], verdicts[i], second);
  }
  return absl::OkStatus();
}

}  // namespace mpo::reward_server
