// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/generation_loop.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "absl/strings/str_cat.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {
namespace {

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since)
      .count();
}

}  // namespace

int64_t GenerationLoop::Active::pages_missing() const {
  if (pages == nullptr) return pages_needed;
  const int64_t shared =
      static_cast<int64_t>(group->prompt->size()) / kPageTokens;
  return pages_needed - (pages->size() - shared);
}

GenerationLoop::GenerationLoop(const std::vector<GenerationRequest>& requests,
                               Settings settings,
                               const model::ModelConfig& config,
                               EngineState& state, EngineStatistics& statistics)
    : requests_(requests),
      settings_(std::move(settings)),
      config_(config),
      state_(state),
      statistics_(statistics),
      results_(requests.size()) {}

void GenerationLoop::Finish(size_t request, FinishReason reason,
                            absl::Status status) {
  GenerationResult& result = results_[request];
  result.finish_reason = reason;
  result.status = std::move(status);
  if (settings_.callback != nullptr && *settings_.callback)
    (*settings_.callback)(result);
}

void GenerationLoop::Enqueue() {
  std::map<std::vector<int32_t>, Group*> by_prompt;
  std::vector<std::vector<size_t>> members;
  std::map<Group*, size_t> index;
  for (size_t i = 0; i < requests_.size(); ++i) {
    const GenerationRequest& request = requests_[i];
    results_[i].id = request.id;
    absl::Status status =
        model::CheckTokens(config_, request.prompt_tokens, request.id);
    const auto length = static_cast<int64_t>(request.prompt_tokens.size());
    if (status.ok() && length >= config_.context) {
      status = absl::InvalidArgumentError(
          absl::StrCat("prompt '", request.id, "' has ", length,
                       " tokens, which leaves no room ",
                       "for a response in the context of ", config_.context));
    }
    if (!status.ok()) {
      Finish(i, FinishReason::kFailed, std::move(status));
      continue;
    }
    Group*& group = by_prompt[request.prompt_tokens];
    if (group == nullptr) {
      groups_.push_back(std::make_unique<Group>());
      group = groups_.back().get();
      group->prompt = &request.prompt_tokens;
      index[group] = members.size();
      members.emplace_back();
    }
    ++group->waiting;
    members[index[group]].push_back(i);
  }
  for (size_t g = 0; g < members.size(); ++g) {
    for (size_t request : members[g])
      waiting_.emplace_back(request, groups_[g].get());
  }
}

std::vector<GenerationLoop::Group*> GenerationLoop::Admit() {
  std::vector<Group*> fresh;
  int64_t missing = 0;
  for (const Active& active : active_) missing += active.pages_missing();
  while (!waiting_.empty() &&
         static_cast<int>(active_.size()) < settings_.max_rows) {
    const auto [request, group] = waiting_.front();
    const auto prompt = static_cast<int64_t>(group->prompt->size());
    Active active;
    active.request = request;
    active.group = group;
    active.length = prompt;
    active.limit = std::min<int64_t>(settings_.sampling.max_new_tokens,
                                     config_.context - prompt);
    // The last token drawn is never run, so it needs no place.
    active.pages_needed =
        PagesFor(prompt + active.limit - 1) - prompt / kPageTokens;
    const int64_t prompt_pages = group->pages == nullptr ? PagesFor(prompt) : 0;
    const int64_t needed = active.pages_needed + prompt_pages;
    if (needed > state_.cache.free_pages() - missing) {
      if (!active_.empty()) break;  // Room comes when a sample finishes.
      waiting_.pop_front();
      if (--group->waiting == 0) group->pages.reset();
      Finish(request, FinishReason::kFailed,
             absl::ResourceExhaustedError(
                 absl::StrCat("sample '", requests_[request].id, "' needs ",
                              needed, " pages of key-value ", "cache, ",
                              state_.cache.free_pages(), " are free")));
      continue;
    }
    if (group->pages == nullptr) {
      group->pages = std::make_unique<PageTable>(state_.cache);
      if (!group->pages->Reserve(prompt)) break;
      fresh.push_back(group);
    }
    missing += active.pages_needed;
    waiting_.pop_front();
    active_.push_back(std::move(active));
  }
  return fresh;
}

bool GenerationLoop::Prefill(const std::vector<Group*>& groups) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<InputToken> tokens;
  for (Group* group : groups) {
    const int64_t hidden = config_.hidden_size;
    const size_t size = group->prompt->size();
    if (settings_.keep_trunk > 0) group->trunk.resize(size * hidden);
    for (size_t i = 0; i < size; ++i) {
      tokens.push_back({.token = (*group->prompt)[i],
                        .row = {static_cast<int32_t>(i), group->pages->pages()},
                        .wanted = i + 1 == size,
                        .trunk = group->trunk.empty()
                                     ? nullptr
                                     : group->trunk.data() + i * hidden});
    }
  }
  const int64_t vocabulary = config_.vocab_size;
  const bool complete = state_.RunAll(
      tokens, {.keep = settings_.keep_trunk}, settings_.prefill_tokens,
      settings_.stop, [&](int first, int count, const float* logits) {
        for (int i = 0; i < count; ++i) {
          const float* row = logits + i * vocabulary;
          groups[first + i]->logits.assign(row, row + vocabulary);
        }
      });
  statistics_.prompt_tokens += static_cast<int64_t>(tokens.size());
  statistics_.prefill_seconds += Seconds(start);
  return complete;
}

void GenerationLoop::ForkNew() {
  size_t first = active_.size();
  while (first > 0 && active_[first - 1].pages == nullptr) --first;
  std::vector<const float*> logits;
  for (size_t i = first; i < active_.size(); ++i) {
    Active& active = active_[i];
    active.pages = active.group->pages->Fork(active.length);
    if (active.pages == nullptr) {
      // Admit has set the pages aside, so only a defect leads here.
      active.finished = true;
      Finish(active.request, FinishReason::kFailed,
             absl::InternalError("key-value cache pages were counted wrongly"));
    }
    if (settings_.keep_trunk > 0) {
      active.trunk = std::make_shared<Trunk>(
          Trunk{settings_.keep_trunk, active.group->trunk});
    }
    logits.push_back(active.group->logits.data());
  }
  DrawTokens(first, logits);
  for (size_t i = first; i < active_.size(); ++i) {
    Group& group = *active_[i].group;
    if (--group.waiting > 0) continue;
    group.pages.reset();
    group.logits = {};
    group.trunk = {};
  }
}

void GenerationLoop::DrawTokens(size_t first,
                                const std::vector<const float*>& logits) {
  std::vector<Draw> draws(logits.size());
  for (size_t i = 0; i < draws.size(); ++i) {
    const size_t request = active_[first + i].request;
    draws[i].logits = logits[i];
    draws[i].seed = requests_[request].seed;
    draws[i].counter = results_[request].tokens.size();
  }
  SampleRows(settings_.sampling, config_.vocab_size, draws.data(),
             static_cast<int>(draws.size()), at::get_num_threads());
  for (size_t i = 0; i < draws.size(); ++i) {
    Active& active = active_[first + i];
    if (active.finished) continue;
    GenerationResult& result = results_[active.request];
    if (!draws[i].finite) {
      active.finished = true;
      Finish(active.request, FinishReason::kFailed,
             absl::DataLossError(absl::StrCat(
                 "sample '", result.id, "': NaN or infinite logits ",
                 "at response token ", result.tokens.size())));
      continue;
    }
    result.tokens.push_back(draws[i].token);
    result.logprobs.push_back(draws[i].logprob);
    result.untempered_logprobs.push_back(draws[i].untempered);
    ++statistics_.generated_tokens;
    const auto& stops = settings_.stop_tokens;
    const bool stopped =
        std::find(stops.begin(), stops.end(), draws[i].token) != stops.end();
    if (stopped || static_cast<int64_t>(result.tokens.size()) >= active.limit) {
      active.finished = true;
      result.trunk = std::move(active.trunk);
      Finish(active.request,
             stopped ? FinishReason::kStop : FinishReason::kLength);
    }
  }
}

void GenerationLoop::DecodeStep() {
  const auto start = std::chrono::steady_clock::now();
  std::vector<InputToken> tokens;
  for (Active& active : active_) {
    if (!active.pages->Reserve(active.length + 1)) {
      active.finished = true;
      Finish(active.request, FinishReason::kFailed,
             absl::InternalError("key-value cache pages were counted wrongly"));
    }
  }
  DropFinished();
  if (active_.empty()) return;
  for (Active& active : active_) {
    InputToken token{
        .token = results_[active.request].tokens.back(),
        .row = {static_cast<int32_t>(active.length), active.pages->pages()},
        .wanted = true};
    if (active.trunk != nullptr) {
      std::vector<float>& inputs = active.trunk->inputs;
      inputs.resize(inputs.size() + config_.hidden_size);
      token.trunk = inputs.data() + inputs.size() - config_.hidden_size;
    }
    tokens.push_back(token);
    ++active.length;
  }
  const int rows = state_.forward.Run(tokens, 0, settings_.keep_trunk);
  const float* all = state_.forward.Logits(0, rows);
  std::vector<const float*> logits;
  for (int i = 0; i < rows; ++i) logits.push_back(all + i * config_.vocab_size);
  DrawTokens(0, logits);
  ++statistics_.decode_steps;
  statistics_.decode_seconds += Seconds(start);
}

void GenerationLoop::DropFinished() {
  std::erase_if(active_, [](const Active& active) { return active.finished; });
}

void GenerationLoop::CancelAll() {
  for (const Active& active : active_)
    Finish(active.request, FinishReason::kCancelled);
  for (const auto& [request, group] : waiting_)
    Finish(request, FinishReason::kCancelled);
  active_.clear();
  waiting_.clear();
}

std::vector<GenerationResult> GenerationLoop::Run() {
  Enqueue();
  while (!waiting_.empty() || !active_.empty()) {
    if (settings_.stop.stop_requested()) {
      CancelAll();
      break;
    }
    const size_t before = active_.size();
    const std::vector<Group*> fresh = Admit();
    if (active_.size() > before) {
      if (!Prefill(fresh)) continue;
      ForkNew();
      DropFinished();
    }
    if (!active_.empty()) DecodeStep();
    DropFinished();
  }
  return std::move(results_);
}

}  // namespace mpo::generation
