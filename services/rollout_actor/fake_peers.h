// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "mpo/base/mutex.h"
#include "services/rollout_actor/peers.h"

namespace mpo::rollout_actor {

// A mesh of one for tests: hands out the queued units, answers as told and
// writes down what it is asked. Thread-safe.
class FakePeers final : public Peers {
 public:
  // What a call answers next: each entry is used up by one call, OK after.
  void Fail(const std::string& call, std::vector<absl::Status> answers) {
    MutexLock lock(mu_);
    for (auto& answer : answers) failures_[call].push_back(std::move(answer));
  }
  void Publish(FetchedWeights weights) {
    MutexLock lock(mu_);
    weights_.push_back(std::move(weights));
    changed_.NotifyAll();
  }
  void Lease(WorkUnit unit) {
    MutexLock lock(mu_);
    units_.push_back(std::move(unit));
    changed_.NotifyAll();
  }
  void LoseLease(const std::string& unit) {
    MutexLock lock(mu_);
    lost_ = unit;
  }
  // While true, Score waits for the end of its stop token.
  void HangScore(bool hang) {
    MutexLock lock(mu_);
    hang_score_ = hang;
  }
  void FinishRun() {
    MutexLock lock(mu_);
    finished_ = true;
  }

  // Waits until an event that begins with `prefix` has happened `times` times.
  bool Await(const std::string& prefix, int times = 1) {
    MutexLock lock(mu_);
    return changed_.WaitFor(mu_, {}, absl::Seconds(60),
                            [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                              return CountLocked(prefix) >= times;
                            });
  }
  int Count(const std::string& prefix) const {
    MutexLock lock(mu_);
    return CountLocked(prefix);
  }
  std::vector<std::string> events() const {
    MutexLock lock(mu_);
    return events_;
  }
  // Index of the first event that begins with `prefix`; -1 = none.
  int FirstOf(const std::string& prefix) const {
    MutexLock lock(mu_);
    for (size_t i = 0; i < events_.size(); ++i) {
      if (events_[i].rfind(prefix, 0) == 0) return static_cast<int>(i);
    }
    return -1;
  }
  std::vector<UnitOutcomes> completed() const {
    MutexLock lock(mu_);
    return completed_;
  }
  std::vector<JudgedRollout> submitted() const {
    MutexLock lock(mu_);
    return submitted_;
  }
  std::vector<ScoreItem> scored() const {
    MutexLock lock(mu_);
    return scored_;
  }

  absl::StatusOr<Membership> Register(std::stop_token) override {
    const absl::Status status = Note("register");
    if (!status.ok()) return status;
    return Membership{absl::StrCat("member-", Count("register")),
                      absl::Seconds(10)};
  }
  absl::StatusOr<std::vector<std::string>> Heartbeat(
      const std::string& member_id, const std::vector<std::string>& unit_ids,
      PolicyVersion version, std::stop_token) override {
    const absl::Status status =
        Note("heartbeat", absl::StrCat(" ", member_id, " v", version, " ",
                                       unit_ids.empty() ? "" : unit_ids[0]));
    if (!status.ok()) return status;
    MutexLock lock(mu_);
    std::vector<std::string> lost;
    if (!lost_.empty()) lost.push_back(lost_);
    return lost;
  }
  absl::StatusOr<LeasedWork> LeaseWork(const std::string& member_id,
                                       absl::Duration wait,
                                       std::stop_token stop) override {
    const absl::Status status = Note("lease", absl::StrCat(" ", member_id));
    if (!status.ok()) return status;
    MutexLock lock(mu_);
    changed_.WaitFor(mu_, stop, wait, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return !units_.empty();
    });
    LeasedWork work;
    work.finished = finished_ && units_.empty();
    if (!units_.empty()) {
      work.unit = std::move(units_.front());
      units_.pop_front();
    }
    return work;
  }
  absl::Status CompleteWork(const std::string&, const WorkUnit& unit,
                            const UnitOutcomes& outcomes,
                            std::stop_token) override {
    MutexLock lock(mu_);
    const absl::Status status =
        NoteLocked("complete", absl::StrCat(" ", unit.id));
    if (status.ok()) completed_.push_back(outcomes);
    return status;
  }
  absl::Status ReturnWork(const std::string&, const WorkUnit& unit,
                          const std::string& reason, bool draining,
                          std::stop_token) override {
    return Note("return",
                absl::StrCat(" ", unit.id, draining ? " (draining)" : "", ": ",
                             reason));
  }
  absl::StatusOr<FetchedWeights> GetWeights(PolicyVersion min_version, int64_t,
                                            std::stop_token stop) override {
    const absl::Status status =
        Note("weights", absl::StrCat(" >= ", min_version));
    if (!status.ok()) return status;
    MutexLock lock(mu_);
    const auto newest = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      while (weights_.size() > 1 &&
             weights_.front().manifest.version < min_version) {
        weights_.pop_front();
      }
      return !weights_.empty() &&
             weights_.front().manifest.version >= min_version;
    };
    if (!changed_.WaitFor(mu_, stop, absl::Seconds(60), newest)) {
      return absl::DeadlineExceededError("no such version");
    }
    FetchedWeights weights = weights_.front();
    if (weights_.size() > 1) weights_.pop_front();
    return weights;
  }
  absl::Status SubmitRollouts(const std::vector<JudgedRollout>& batch,
                              std::stop_token) override {
    MutexLock lock(mu_);
    const absl::Status status = NoteLocked("submit");
    if (status.ok())
      submitted_.insert(submitted_.end(), batch.begin(), batch.end());
    return status;
  }
  absl::StatusOr<std::map<std::string, Verdicts>> Score(
      const WorkUnit& unit, const std::vector<ScoreItem>& items,
      std::stop_token stop) override {
    const absl::Status status = Note("score");
    if (!status.ok()) return status;
    MutexLock lock(mu_);
    if (hang_score_) {
      changed_.WaitFor(mu_, stop, absl::Seconds(60), [] { return false; });
      return absl::CancelledError("stopped");
    }
    std::map<std::string, Verdicts> verdicts;
    for (const ScoreItem& item : items) {
      scored_.push_back(item);
      Verdicts both;
      both.verdict.scored = true;
      both.verdict.reward = 0.5;
      both.verdict.rubric_sha256 = unit.rubric_sha256;
      if (!unit.monitor_rubric_sha256.empty()) both.monitor = both.verdict;
      verdicts[item.sample_key] = both;
    }
    return verdicts;
  }

 private:
  int CountLocked(const std::string& prefix) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return static_cast<int>(std::count_if(
        events_.begin(), events_.end(),
        [&](const std::string& e) { return e.rfind(prefix, 0) == 0; }));
  }
  // Writes the event down and returns what the call is to answer.
  absl::Status Note(const std::string& call, const std::string& more = "") {
    MutexLock lock(mu_);
    return NoteLocked(call, more);
  }
  absl::Status NoteLocked(const std::string& call, const std::string& more = "")
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    events_.push_back(call + more);
    changed_.NotifyAll();
    auto& answers = failures_[call];
    if (answers.empty()) return absl::OkStatus();
    const absl::Status answer = answers.front();
    answers.pop_front();
    return answer;
  }

  mutable Mutex mu_;
  CondVar changed_;
  std::vector<std::string> events_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::deque<absl::Status>> failures_
      ABSL_GUARDED_BY(mu_);
  std::deque<WorkUnit> units_ ABSL_GUARDED_BY(mu_);
  std::deque<FetchedWeights> weights_ ABSL_GUARDED_BY(mu_);
  std::string lost_ ABSL_GUARDED_BY(mu_);
  bool hang_score_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<UnitOutcomes> completed_ ABSL_GUARDED_BY(mu_);
  std::vector<JudgedRollout> submitted_ ABSL_GUARDED_BY(mu_);
  std::vector<ScoreItem> scored_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mpo::rollout_actor
