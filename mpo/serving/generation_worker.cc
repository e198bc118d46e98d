// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/generation_worker.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "mpo/base/clock.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/model/decoder.h"
#include "mpo/serving/sample_channel.h"
#include "mpo/text/stop_strings.h"

namespace mpo::serving {

namespace {

// Prompts are measured between two passes until they have so many tokens, so
// that samples in hand are not kept waiting for long.
constexpr int64_t kMeasuredTokens = 2048;

// What a client may know of a failure. The engine's id of the sample is not
// among it. What is too large has been refused before, so the engine lacked
// memory.
absl::Status ToldStatus(const absl::Status& status, const std::string& id) {
  if (status.ok()) return status;
  const std::string message = absl::StrReplaceAll(
      status.message(), {{absl::StrCat("sample '", id, "': "), ""},
                         {absl::StrCat("'", id, "': "), ""},
                         {absl::StrCat("sample '", id, "'"), "the sample"},
                         {absl::StrCat("prompt '", id, "'"), "the prompt"},
                         {absl::StrCat("sequence '", id, "'"), "the prompt"}});
  if (absl::IsResourceExhausted(status))
    return absl::UnavailableError(absl::StrCat("out of memory: ", message));
  return {status.code(), message};
}

bool Measured(const SampleOrder& order) {
  return order.echo.has_value() && order.echo->logprobs;
}

// What is told of the tokens of a measured prompt.
std::vector<ServedToken> ToldPrompt(const generation::ScoreRequest& request,
                                    const generation::ScoreResult& result) {
  std::vector<ServedToken> prompt;
  for (const int32_t token : request.tokens) {
    ServedToken& told =
        prompt.emplace_back(ServedToken{token, std::nullopt, {}});
    if (prompt.size() == 1) continue;
    const size_t at = prompt.size() - 2;
    told.logprob = result.logprobs[at];
    if (request.top_logprobs > 0) told.top = result.top_logprobs[at];
  }
  return prompt;
}

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
                      .logprob = result.untempered_logprobs[at],
                      .top = {}};
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
                    .status = ToldStatus(
                        problem_.ok() ? result.status : problem_, state_->id)};
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

GenerationWorker::GenerationWorker(std::unique_ptr<generation::Engine> engine,
                                   const text::Tokenizer& tokenizer,
                                   const WorkerOptions& options)
    : engine_(std::move(engine)),
      tokenizer_(tokenizer),
      options_(options),
      config_(engine_->model().config()),
      abandoned_(std::make_shared<AbandonedSamples>()),
      thread_([this](std::stop_token stop) { Run(stop); }) {}

GenerationWorker::~GenerationWorker() {
  thread_.request_stop();
  {
    MutexLock lock(mu_);
    draining_ = true;
    changed_.NotifyAll();
  }
}

absl::Status GenerationWorker::Fit(SampleOrder& order) const {
  const std::vector<int32_t>& prompt = order.request.prompt_tokens;
  const auto length = static_cast<int64_t>(prompt.size());
  MPO_RETURN_IF_ERROR(model::CheckTokens(config_, prompt, order.request.id));
  const bool prompt_only = order.echo.has_value() &&
                           order.request.sampling.has_value() &&
                           order.request.sampling->max_new_tokens == 0;
  if (length >= config_.context + (prompt_only ? 1 : 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", length,
        " tokens, which leaves no room for a response in the context of ",
        config_.context));
  }
  // Const and of what never changes here, so not only thread_ may ask.
  if (Measured(order) && !engine_->CanScore(length)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", length,
                     " tokens, more than the key-value cache holds"));
  }
  if (prompt_only) return absl::OkStatus();
  const int64_t most = engine_->MostNewTokens(length);
  if (most < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", length,
        " tokens, which leaves no room for a response in the key-value cache"));
  }
  if (!order.request.sampling.has_value()) return absl::OkStatus();
  SamplingOptions& sampling = *order.request.sampling;
  if (order.to_the_end) {
    sampling.max_new_tokens = static_cast<int>(most);
    sampling.min_new_tokens =
        std::min(sampling.min_new_tokens, sampling.max_new_tokens);
    return absl::OkStatus();
  }
  const int64_t asked =
      std::min<int64_t>(sampling.max_new_tokens, config_.context - length);
  if (asked <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("max_tokens: the key-value cache holds at most ", most,
                   " more after a prompt of ", length, ", found ", asked));
}

absl::StatusOr<std::vector<std::unique_ptr<SampleStream>>>
GenerationWorker::Submit(std::vector<SampleOrder> orders) {
  for (SampleOrder& order : orders) MPO_RETURN_IF_ERROR(Fit(order));
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
    auto state =
        std::make_shared<SampleStream::State>(order.request.id, abandoned_);
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

void GenerationWorker::CancelAll() {
  MutexLock lock(mu_);
  draining_ = true;
  cancelling_ = true;
  measuring_.request_stop();
  changed_.NotifyAll();
}

int64_t GenerationWorker::in_hand() const {
  MutexLock lock(mu_);
  return in_hand_;
}

// Leaves before it tells, so that a reader who knows the end finds its place
// free.
void GenerationWorker::End(Entry& entry, SampleNews news) {
  news.over = true;
  Leave();
  entry.state->Tell(std::move(news));
}

void GenerationWorker::Admit(std::deque<Entry> fresh, std::stop_token stop) {
  for (Entry& entry : fresh) {
    if (blocked_at_ > 0 || Measured(entry.order)) {
      held_.push_back(std::move(entry));
    } else {
      Start(std::move(entry));
    }
  }
  // Until a sample has left, the cache has no more room than before.
  if (InEngine() >= blocked_at_ && blocked_at_ > 0) return;
  blocked_at_ = 0;
  if (!held_.empty()) MeasurePrompts(std::move(stop));
}

void GenerationWorker::MeasurePrompts(std::stop_token stop) {
  std::vector<Entry> entries;
  std::vector<size_t> request_of;  // By entry.
  std::vector<generation::ScoreRequest> requests;
  std::set<std::string> ids;
  int64_t tokens = 0;
  while (!held_.empty()) {
    const generation::GenerationRequest& next = held_.front().order.request;
    // The samples of one prompt follow each other.
    const bool same = !requests.empty() &&
                      requests.back().tokens == next.prompt_tokens &&
                      requests.back().top_logprobs == next.top_logprobs;
    const bool measured = Measured(held_.front().order);
    if (measured && !same && tokens >= kMeasuredTokens) break;
    Entry entry = std::move(held_.front());
    held_.pop_front();
    if (entry.state->Abandoned()) {
      End(entry, {.finish_reason = FinishReason::kCancelled});
      continue;
    }
    if (!measured) {
      Start(std::move(entry));
      continue;
    }
    const generation::GenerationRequest& request = entry.order.request;
    if (!same) {
      tokens += static_cast<int64_t>(request.prompt_tokens.size());
      requests.push_back({.id = request.id,
                          .tokens = request.prompt_tokens,
                          .top_logprobs = request.top_logprobs});
    }
    ids.insert(request.id);
    request_of.push_back(requests.size() - 1);
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) return;

  std::stop_source measuring;
  {
    MutexLock lock(mu_);
    measuring_ = measuring;
    if (cancelling_) measuring.request_stop();
  }
  const std::stop_callback on_stop(stop, [&] { measuring.request_stop(); });
  abandoned_->Watch(std::move(ids), measuring);
  const auto results =
      engine_->LogProbs(requests, engine_->adapter(), measuring.get_token());
  abandoned_->Watch({}, std::stop_source());
  std::deque<Entry> again;
  for (size_t i = 0; i < entries.size(); ++i) {
    const size_t r = request_of[i];
    const absl::Status status =
        results.ok() ? (*results)[r].status : results.status();
    if (status.ok()) {
      Start(std::move(entries[i]), ToldPrompt(requests[r], (*results)[r]));
    } else if (absl::IsCancelled(status)) {
      End(entries[i], {.finish_reason = FinishReason::kCancelled});
    } else if (absl::IsResourceExhausted(status) && InEngine() > 0) {
      again.push_back(std::move(entries[i]));
    } else {
      End(entries[i], {.status = ToldStatus(status, requests[r].id)});
    }
  }
  if (again.empty()) return;
  held_.insert(held_.begin(), std::make_move_iterator(again.begin()),
               std::make_move_iterator(again.end()));
  blocked_at_ = InEngine();
}

void GenerationWorker::Start(Entry entry, std::vector<ServedToken> prompt) {
  if (entry.order.echo.has_value()) {
    SampleNews news{.text = std::move(entry.order.echo->text),
                    .tokens = std::move(prompt)};
    news.echoed = static_cast<int64_t>(news.tokens.size());
    if (entry.order.request.sampling->max_new_tokens == 0) {
      news.finish_reason = FinishReason::kLength;
      return End(entry, std::move(news));
    }
    entry.state->Tell(std::move(news));
  }
  auto reporter = std::make_shared<Reporter>(
      tokenizer_, std::move(entry.order.stop), entry.state);
  generation::GenerationRequest request = std::move(entry.order.request);
  request.on_token = [reporter](const generation::GenerationResult& result) {
    return reporter->OnToken(result);
  };
  const absl::Status status =
      engine_->Submit(std::move(request),
                      [this, reporter](generation::GenerationResult&& result) {
                        Leave();
                        reporter->OnDone(std::move(result));
                      });
  if (!status.ok()) End(entry, {.status = ToldStatus(status, entry.state->id)});
}

void GenerationWorker::CancelAbandoned() {
  for (const std::string& id : abandoned_->Take()) engine_->Cancel(id);
}

void GenerationWorker::EndAll(std::deque<Entry> fresh) {
  engine_->CancelAll();
  for (std::deque<Entry>* entries : {&fresh, &held_}) {
    for (Entry& entry : *entries)
      End(entry, {.finish_reason = FinishReason::kCancelled});
    entries->clear();
  }
}

void GenerationWorker::Leave() {
  MutexLock lock(mu_);
  --in_hand_;
  changed_.NotifyAll();
}

void GenerationWorker::Run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    std::deque<Entry> fresh;
    bool cancel = false;
    {
      MutexLock lock(mu_);
      while (inbox_.empty() && in_hand_ == 0 && !stop.stop_requested())
        changed_.Wait(mu_);
      fresh.swap(inbox_);
      cancel = cancelling_;
    }
    if (cancel) EndAll(std::exchange(fresh, {}));
    Admit(std::move(fresh), stop);
    CancelAbandoned();  // After Start: also of what has just come.
    const absl::StatusOr<bool> left = engine_->Step();
    if (!left.ok()) {
      logging::Error("a pass failed, its samples are lost",
                     {{"status", left.status().ToString()}});
    }
    MutexLock lock(mu_);
    waiting_ =
        engine_->waiting() + static_cast<int64_t>(inbox_.size() + held_.size());
  }
  std::deque<Entry> rest;
  {
    MutexLock lock(mu_);
    rest.swap(inbox_);
  }
  EndAll(std::move(rest));
}

}  // namespace mpo::serving
