// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/scoring_loop.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "mpo/generation/sampler.h"
#include "mpo/generation/top_logprobs.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {

ScoringLoop::ScoringLoop(const std::vector<ScoreRequest>& requests,
                         const EngineOptions& options,
                         const model::ModelConfig& config, EngineState& state,
                         std::stop_token stop)
    : requests_(requests),
      options_(options),
      config_(config),
      state_(state),
      first_layer_(requests.empty() || requests[0].trunk == nullptr
                       ? 0
                       : requests[0].trunk->layer),
      stop_(std::move(stop)),
      results_(requests.size()) {}

bool ScoringLoop::SamePrefix(size_t a, size_t b) const {
  const ScoreRequest& x = requests_[a];
  const ScoreRequest& y = requests_[b];
  return x.first_scored == y.first_scored &&
         std::equal(x.tokens.begin(), x.tokens.begin() + x.first_scored,
                    y.tokens.begin());
}

// Valid requests with equal prefixes brought together; failures are recorded.
std::deque<size_t> ScoringLoop::InPrefixOrder() {
  std::map<std::vector<int32_t>, std::vector<size_t>> by_prefix;
  std::vector<const std::vector<size_t>*> order;
  for (size_t i = 0; i < requests_.size(); ++i) {
    const ScoreRequest& request = requests_[i];
    ScoreResult& result = results_[i];
    result.id = request.id;
    result.status = model::CheckTokens(config_, request.tokens, request.id);
    if (!result.status.ok()) continue;
    const auto size = static_cast<int64_t>(request.tokens.size());
    if (request.first_scored < 1 || request.first_scored > size) {
      result.status = absl::InvalidArgumentError(absl::StrCat(
          "sequence '", request.id, "': first_scored: expected 1 to ", size,
          ", found ", request.first_scored));
      continue;
    }
    if (request.top_logprobs < 0 || request.top_logprobs > 100) {
      result.status = absl::InvalidArgumentError(
          absl::StrCat("sequence '", request.id, "': top_logprobs: expected 0 ",
                       "to 100, found ", request.top_logprobs));
      continue;
    }
    result.logprobs.resize(size - request.first_scored);
    if (request.top_logprobs > 0)
      result.top_logprobs.resize(result.logprobs.size());
    if (result.logprobs.empty()) continue;
    auto& members = by_prefix[{request.tokens.begin(),
                               request.tokens.begin() + request.first_scored}];
    if (members.empty()) order.push_back(&members);
    members.push_back(i);
  }
  std::deque<size_t> sorted;
  for (const auto* members : order)
    sorted.insert(sorted.end(), members->begin(), members->end());
  return sorted;
}

std::vector<ScoringLoop::Group> ScoringLoop::NextBatch(
    std::deque<size_t>& waiting) {
  std::vector<Group> groups;
  int rows = 0;
  int64_t pages = 0;
  while (!waiting.empty() && rows < options_.max_rows) {
    const size_t next = waiting.front();
    const auto size = static_cast<int64_t>(requests_[next].tokens.size());
    const int64_t prefix = requests_[next].first_scored;
    const bool joins =
        !groups.empty() && SamePrefix(groups.back().members.front(), next);
    const int64_t needed =
        PagesFor(size) - prefix / kPageTokens + (joins ? 0 : PagesFor(prefix));
    if (pages + needed > state_.cache.free_pages()) {
      if (!groups.empty()) break;
      results_[next].status = absl::ResourceExhaustedError(
          absl::StrCat("sequence '", requests_[next].id, "' needs ", needed,
                       " pages of key-value cache, ", state_.cache.free_pages(),
                       " are free"));
      waiting.pop_front();
      continue;
    }
    if (!joins) groups.emplace_back();
    groups.back().members.push_back(next);
    pages += needed;
    ++rows;
    waiting.pop_front();
  }
  return groups;
}

float* ScoringLoop::TrunkAt(const ScoreRequest& request, int position) const {
  if (request.trunk == nullptr) return nullptr;
  // Read only: passes that start above layer 0 keep nothing.
  return const_cast<float*>(request.trunk->inputs.data()) +
         position * config_.hidden_size;
}

bool ScoringLoop::RunAndLookUp(
    const std::vector<InputToken>& tokens,
    const std::vector<std::vector<Target>>& targets) {
  const auto look_up = [&](int first, int count, LogitRows logits) {
    std::vector<Lookup> lookups;
    for (int i = 0; i < count; ++i) {
      for (const Target& target : targets[first + i]) {
        lookups.push_back({.logits = logits.row(i), .token = target.token});
      }
    }
    LogProbRows(config_.vocab_size, lookups.data(),
                static_cast<int>(lookups.size()), at::get_num_threads());
    size_t at = 0;
    for (int i = 0; i < count; ++i) {
      for (const Target& target : targets[first + i]) {
        const Lookup& found = lookups[at++];
        ScoreResult& result = results_[target.request];
        result.logprobs[target.index] = found.logprob;
        if (result.top_logprobs.empty() || !std::isfinite(found.logprob))
          continue;
        result.top_logprobs[target.index] =
            TopLogprobs(found.logits, config_.vocab_size,
                        requests_[target.request].top_logprobs,
                        {found.token, found.logprob});
      }
    }
  };
  return state_.RunAll(tokens, {.first = first_layer_}, options_.prefill_tokens,
                       stop_, look_up);
}

bool ScoringLoop::RunPrefixes(std::vector<Group>& groups) {
  std::vector<InputToken> tokens;
  std::vector<std::vector<Target>> targets;
  for (Group& group : groups) {
    const ScoreRequest& request = requests_[group.members.front()];
    group.pages = std::make_unique<PageTable>(state_.cache);
    if (!group.pages->Reserve(request.first_scored)) throw std::bad_alloc();
    for (int i = 0; i < request.first_scored; ++i) {
      tokens.push_back({.token = request.tokens[i],
                        .row = {i, group.pages->pages()},
                        .wanted = i + 1 == request.first_scored,
                        .trunk = TrunkAt(request, i)});
    }
    std::vector<Target>& first = targets.emplace_back();
    for (size_t member : group.members) {
      first.push_back(
          {member, 0, requests_[member].tokens[request.first_scored]});
    }
  }
  return RunAndLookUp(tokens, targets);
}

bool ScoringLoop::RunRests(std::vector<Group>& groups) {
  std::vector<InputToken> tokens;
  std::vector<std::vector<Target>> targets;
  std::vector<std::unique_ptr<PageTable>> tables;
  for (const Group& group : groups) {
    for (size_t member : group.members) {
      const ScoreRequest& request = requests_[member];
      // The last token is only looked up, never run.
      const int end = static_cast<int>(request.tokens.size()) - 1;
      auto pages = group.pages->Fork(request.first_scored);
      if (pages == nullptr || !pages->Reserve(end)) throw std::bad_alloc();
      for (int i = request.first_scored; i < end; ++i) {
        tokens.push_back({.token = request.tokens[i],
                          .row = {i, pages->pages()},
                          .wanted = true,
                          .trunk = TrunkAt(request, i)});
        targets.push_back(
            {{member, static_cast<size_t>(i + 1 - request.first_scored),
              request.tokens[i + 1]}});
      }
      tables.push_back(std::move(pages));
    }
  }
  return RunAndLookUp(tokens, targets);
}

absl::StatusOr<std::vector<ScoreResult>> ScoringLoop::Run() {
  std::deque<size_t> waiting = InPrefixOrder();
  while (!waiting.empty()) {
    std::vector<Group> groups = NextBatch(waiting);
    if (!RunPrefixes(groups) || !RunRests(groups)) {
      return absl::CancelledError("scoring was stopped");
    }
  }
  for (ScoreResult& result : results_) {
    const bool finite =
        std::all_of(result.logprobs.begin(), result.logprobs.end(),
                    [](float value) { return std::isfinite(value); });
    if (result.status.ok() && !finite) {
      result.status = absl::DataLossError(
          absl::StrCat("sequence '", result.id, "': NaN or infinite logits"));
    }
    if (result.status.ok()) continue;
    result.logprobs.clear();
    result.top_logprobs.clear();
  }
  return std::move(results_);
}

}  // namespace mpo::generation
