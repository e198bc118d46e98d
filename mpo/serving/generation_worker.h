// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/mutex.h"
#include "mpo/generation/engine.h"
#include "mpo/serving/sample_stream.h"
#include "mpo/text/tokenizer.h"

namespace mpo::serving {

// The prompt as the beginning of the answer.
struct Echo {
  std::string text;
  bool logprobs = false;  // Of its tokens too: one more pass over the prompt.
};

// One sample to generate.
struct SampleOrder {
  generation::GenerationRequest request;  // Its sampling options set.
  std::vector<std::string> stop;          // Strings that end the response.
  // Up to what context and cache hold, whatever max_new_tokens says.
  bool to_the_end = false;
  // Set: told before the response; max_new_tokens may be 0 then.
  std::optional<Echo> echo = std::nullopt;
};

// Samples whose readers have gone.
class AbandonedSamples;

struct WorkerOptions {
  int max_waiting = 256;  // Samples that may wait for a place, >= 1.
};

// Owns an engine and the one thread that steps it. Thread-safe.
class GenerationWorker {
 public:
  // The tokenizer must outlive the worker.
  GenerationWorker(std::unique_ptr<generation::Engine> engine,
                   const text::Tokenizer& tokenizer,
                   const WorkerOptions& options);
  // Ends what is in hand as cancelled.
  ~GenerationWorker();
  GenerationWorker(const GenerationWorker&) = delete;
  GenerationWorker& operator=(const GenerationWorker&) = delete;

  // Takes all orders or none. RESOURCE_EXHAUSTED: the queue is full;
  // UNAVAILABLE: draining; INVALID_ARGUMENT: an empty prompt or one that leaves
  // no room in the context or the cache, a sample that the cache cannot hold,
  // or more orders than may wait at all.
  absl::StatusOr<std::vector<std::unique_ptr<SampleStream>>> Submit(
      std::vector<SampleOrder> orders) ABSL_LOCKS_EXCLUDED(mu_);

  // Takes nothing more and waits until what is in hand is done, at most
  // `patience`; true when it is.
  bool Drain(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes nothing more and ends what is in hand as cancelled before the next
  // pass. Does not wait for that.
  void CancelAll() ABSL_LOCKS_EXCLUDED(mu_);

  const model::ModelConfig& config() const { return config_; }
  int max_waiting() const { return options_.max_waiting; }
  int64_t in_hand() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    SampleOrder order;
    std::shared_ptr<SampleStream::State> state;
  };

  absl::Status Fit(SampleOrder& order) const;
  void Run(std::stop_token stop);
  // Starts what need not be measured, then measures what waits for that.
  void Admit(std::deque<Entry> fresh, std::stop_token stop);
  void MeasurePrompts(std::stop_token stop);
  // `prompt`: what is told of its tokens.
  void Start(Entry entry, std::vector<ServedToken> prompt = {});
  void End(Entry& entry, SampleNews news);
  int64_t InEngine() const { return engine_->waiting() + engine_->running(); }
  void CancelAbandoned();
  void EndAll(std::deque<Entry> fresh) ABSL_LOCKS_EXCLUDED(mu_);
  void Leave() ABSL_LOCKS_EXCLUDED(mu_);

  std::unique_ptr<generation::Engine> engine_;  // Of thread_.
  const text::Tokenizer& tokenizer_;
  const WorkerOptions options_;
  const model::ModelConfig config_;
  const std::shared_ptr<AbandonedSamples> abandoned_;
  // Of thread_: not started, since their prompts are not measured or stand
  // behind one that the cache has no room for.
  std::deque<Entry> held_;
  // Of thread_: samples in the engine when the first of them was; 0 = is not.
  int64_t blocked_at_ = 0;
  mutable Mutex mu_;
  CondVar changed_;
  std::deque<Entry> inbox_ ABSL_GUARDED_BY(mu_);
  int64_t waiting_ ABSL_GUARDED_BY(mu_) = 0;  // Inbox and engine's queue.
  int64_t in_hand_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelling_ ABSL_GUARDED_BY(mu_) = false;
  std::stop_source measuring_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::jthread thread_;
};

}  // namespace mpo::serving
