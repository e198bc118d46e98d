// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iterator>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "mpo/base/mutex.h"
#include "mpo/serving/sample_stream.h"

// The writing end of a SampleStream, for the worker alone.
namespace mpo::serving {

// Readers add, the worker's thread takes. Thread-safe.
class AbandonedSamples {
 public:
  void Add(std::string id) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (watched_.erase(id) > 0 && watched_.empty()) all_gone_.request_stop();
    ids_.push_back(std::move(id));
  }
  // Stops `all_gone` once none of `ids` has a reader.
  void Watch(std::set<std::string> ids, std::stop_source all_gone)
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    for (const std::string& id : ids_) ids.erase(id);
    if (ids.empty()) all_gone.request_stop();
    watched_ = std::move(ids);
    all_gone_ = std::move(all_gone);
  }
  std::vector<std::string> Take() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return std::exchange(ids_, {});
  }

 private:
  Mutex mu_;
  std::vector<std::string> ids_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> watched_ ABSL_GUARDED_BY(mu_);
  std::stop_source all_gone_ ABSL_GUARDED_BY(mu_);
};

// Shared by the reader and the worker's thread.
struct SampleStream::State {
  State(std::string name, std::shared_ptr<AbandonedSamples> samples)
      : id(std::move(name)), leavers(std::move(samples)) {}

  const std::string id;  // The engine's.
  const std::shared_ptr<AbandonedSamples> leavers;
  Mutex mu;
  CondVar changed;
  SampleNews news ABSL_GUARDED_BY(mu);
  bool fresh ABSL_GUARDED_BY(mu) = false;
  bool abandoned ABSL_GUARDED_BY(mu) = false;
  bool over ABSL_GUARDED_BY(mu) = false;

  // False when the reader has gone.
  bool Tell(SampleNews more) ABSL_LOCKS_EXCLUDED(mu) {
    MutexLock lock(mu);
    news.text += more.text;
    std::move(more.tokens.begin(), more.tokens.end(),
              std::back_inserter(news.tokens));
    news.echoed += more.echoed;
    news.over = over = more.over;
    news.finish_reason = more.finish_reason;
    news.status = std::move(more.status);
    fresh = true;
    changed.NotifyAll();
    return !abandoned;
  }

  bool Abandoned() ABSL_LOCKS_EXCLUDED(mu) {
    MutexLock lock(mu);
    return abandoned;
  }

  SampleNews Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    fresh = false;
    return std::exchange(news, {});
  }
};

}  // namespace mpo::serving
