// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/generation_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/clock.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/model/decoder.h"
#include "mpo/text/stop_strings.h"

namespace mpo::serving {

// Shared by the reader and the worker's thread.
struct SampleStream::State {
  Mutex mu;
  CondVar changed;
  SampleNews news ABSL_GUARDED_BY(mu);
  bool fresh ABSL_GUARDED_BY(mu) = false;
  bool abandoned ABSL_GUARDED_BY(mu) = false;

  // False when the reader has gone.
  bool Tell(SampleNews more) ABSL_LOCKS_EXCLUDED(mu) {
    MutexLock lock(mu);
    news.text += more.text;
    std::move(more.tokens.begin(), more.tokens.end(),
              std::back_inserter(news.tokens));
    news.over = more.over;
    news.finish_reason = more.finish_reason;
    news.status = std::move(more.status);
    fresh = true;
    changed.NotifyAll();
    return !abandoned;
  }
};

namespace {

// Turns what the engine reports into news.
class Reporter {
 public:
  Reporter(const text::Tokenizer& tokenizer, std::vector<std::string> stops,
           std::shared_ptr<SampleStream::State> state)
      : decoder_(tokenizer),
        stops_(std::move(stops)),
        state_(std::move(state)) {}

  // After each token; false ends the sample.
  bool OnToken(const generation::GenerationResult& result) {
    SampleNews news;
    const size_t at = result.tokens.size() - 1;
    ServedToken token{.token = result.tokens[at],
                      .logprob = result.untempered_logprobs[at]};
    if (!result.top_logprobs.empty()) token.top = result.top_logprobs[at];
    news.tokens.push_back(std::move(token));
    absl::StatusOr<std::string> piece = decoder_.Push(result.tokens[at]);
    if (!piece.ok()) {
      problem_ = piece.status();
      return false;
    }
    news.text = stops_.Push(*piece);
    return state_->Tell(std::move(news)) && !stops_.found();
  }

  void OnDone(generation::GenerationResult&& result) {
    SampleNews news{.over = true,
                    .finish_reason = result.finish_reason,
                    .status = problem_.ok() ? result.status : problem_};
    news.text = stops_.Push(decoder_.Finish());
    news.text += stops_.Finish();
    state_->Tell(std::move(news));
  }

 private:
  text::IncrementalDecoder decoder_;
  text::StopStrings stops_;
  std::shared_ptr<SampleStream::State> state_;
  absl::Status problem_;
};

}  // namespace

SampleStream::~SampleStream() {
  MutexLock lock(state_->mu);
  state_->abandoned = true;  // Seen at its next token.
}

SampleNews SampleStream::Next() {
  MutexLock lock(state_->mu);
  while (!state_->fresh) state_->changed.Wait(state_->mu);
  state_->fresh = false;
  SampleNews news = std::move(state_->news);
  state_->news = {};
  return news;
}

GenerationWorker::GenerationWorker(std::unique_ptr<generation::Engine> engine,
                                   const text::Tokenizer& tokenizer,
                                   const WorkerOptions& options)
    : engine_(std::move(engine)),
      tokenizer_(tokenizer),
      options_(options),
      config_(engine_->model().config()),
      thread_([this](std::stop_token stop) { Run(stop); }) {}

GenerationWorker::~GenerationWorker() {
  thread_.request_stop();
  {
    MutexLock lock(mu_);
    draining_ = true;
    changed_.NotifyAll();
  }
}

absl::StatusOr<std::vector<std::unique_ptr<SampleStream>>>
GenerationWorker::Submit(std::vector<SampleOrder> orders) {
  for (const SampleOrder& order : orders) {
    const std::vector<int32_t>& prompt = order.request.prompt_tokens;
    MPO_RETURN_IF_ERROR(model::CheckTokens(config_, prompt, order.request.id));
    if (static_cast<int64_t>(prompt.size()) >= config_.context) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the prompt has ", prompt.size(),
          " tokens, which leaves no room for a response in the context of ",
          config_.context));
    }
  }
  if (static_cast<int64_t>(orders.size()) > options_.max_waiting) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the request asks for ", orders.size(), " samples, at most ",
        options_.max_waiting, " are served"));
  }
  std::vector<std::unique_ptr<SampleStream>> streams;
  MutexLock lock(mu_);
  if (draining_) return absl::UnavailableError("the server is shutting down");
  if (waiting_ + static_cast<int64_t>(orders.size()) > options_.max_waiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat(waiting_, " samples wait already, at most ",
                     options_.max_waiting, " may; try again later"));
  }
  for (SampleOrder& order : orders) {
    order.request.id = absl::StrCat(next_id_++);
    auto state = std::make_shared<SampleStream::State>();
    streams.push_back(std::make_unique<SampleStream>(state));
    inbox_.push_back({std::move(order), std::move(state)});
    ++waiting_;
    ++in_hand_;
  }
  changed_.NotifyAll();
  return streams;
}

bool GenerationWorker::Drain(absl::Duration patience) {
  const absl::Time deadline = Clock::Real().Steady() + patience;
  MutexLock lock(mu_);
  draining_ = true;
  while (in_hand_ > 0) {
    const absl::Duration left = deadline - Clock::Real().Steady();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(mu_, left);
  }
  return true;
}

int64_t GenerationWorker::in_hand() const {
  MutexLock lock(mu_);
  return in_hand_;
}

void GenerationWorker::Start(Entry entry) {
  auto reporter = std::make_shared<Reporter>(
      tokenizer_, std::move(entry.order.stop), entry.state);
  generation::GenerationRequest request = std::move(entry.order.request);
  request.on_token = [reporter](const generation::GenerationResult& result) {
    return reporter->OnToken(result);
  };
  // Counted out before it is told, so that a reader who knows the end finds
  // its place free.
  const absl::Status status =
      engine_->Submit(std::move(request),
                      [this, reporter](generation::GenerationResult&& result) {
                        Leave();
                        reporter->OnDone(std::move(result));
                      });
  if (status.ok()) return;
  Leave();
  entry.state->Tell({.over = true, .status = status});
}

void GenerationWorker::Leave() {
  MutexLock lock(mu_);
  --in_hand_;
  changed_.NotifyAll();
}

void GenerationWorker::Run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    std::deque<Entry> fresh;
    {
      MutexLock lock(mu_);
      while (inbox_.empty() && in_hand_ == 0 && !stop.stop_requested())
        changed_.Wait(mu_);
      fresh.swap(inbox_);
    }
    for (Entry& entry : fresh) Start(std::move(entry));
    const absl::StatusOr<bool> left = engine_->Step();
    if (!left.ok()) {
      logging::Error("a pass failed, its samples are lost",
                     {{"status", left.status().ToString()}});
    }
    MutexLock lock(mu_);
    waiting_ = engine_->waiting() + static_cast<int64_t>(inbox_.size());
  }
  engine_->CancelAll();
  std::deque<Entry> rest;
  {
    MutexLock lock(mu_);
    rest.swap(inbox_);
  }
  for (Entry& entry : rest) {
    entry.state->Tell(
        {.over = true, .finish_reason = FinishReason::kCancelled});
  }
}

}  // namespace mpo::serving
