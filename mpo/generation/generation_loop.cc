// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/generation_loop.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/generation/top_logprobs.h"

namespace mpo::generation {
namespace {

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since)
      .count();
}

bool Holds(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

// Finite, so that a row that bans a token is still told from a broken one.
constexpr float kBanned = -1e30F;

}  // namespace

int64_t GenerationLoop::Job::pages_missing() const {
  if (pages == nullptr) return pages_needed;
  const int64_t shared =
      static_cast<int64_t>(request.prompt_tokens.size()) / kPageTokens;
  return pages_needed - (pages->size() - shared);
}

const std::vector<int32_t>& GenerationLoop::Job::StopTokens(
    const EngineOptions& options, const model::ModelConfig& c) const {
  if (request.stop_tokens.has_value()) return *request.stop_tokens;
  return options.stop_tokens.has_value() ? *options.stop_tokens : c.eos_tokens;
}

GenerationLoop::GenerationLoop(const EngineOptions& options,
                               const model::ModelConfig& config,
                               EngineState& state, EngineStatistics& statistics)
    : options_(options),
      config_(config),
      state_(state),
      statistics_(statistics) {}

void GenerationLoop::Finish(Job& job, FinishReason reason,
                            absl::Status status) {
  job.finished = true;
  job.result.finish_reason = reason;
  job.result.status = std::move(status);
  if (job.result.status.ok()) job.result.trunk = std::move(job.trunk);
  if (job.done) job.done(std::move(job.result));
}

void GenerationLoop::AppendPrompts(int64_t budget,
                                   std::vector<InputToken>& tokens,
                                   std::vector<Group*>& completed) {
  const int64_t hidden = config_.hidden_size;
  for (const auto& job : active_) {
    if (job->group == nullptr || job->group->ready()) continue;
    Group& group = *job->group;
    while (budget > 0 && !group.ready()) {
      const int64_t at = group.prefilled++;
      tokens.push_back({.token = group.prompt[at],
                        .row = {static_cast<int32_t>(at), group.pages->pages()},
                        .wanted = group.ready(),
                        .trunk = keep_trunk_ > 0
                                     ? group.trunk.data() + at * hidden
                                     : nullptr});
      --budget;
    }
    if (group.ready()) completed.push_back(&group);
    if (budget == 0) return;
  }
}

void GenerationLoop::AppendDecodes(std::vector<InputToken>& tokens,
                                   std::vector<Job*>& rows) {
  for (const auto& job : active_) {
    if (job->pages == nullptr || job->finished) continue;
    if (!job->pages->Reserve(job->length + 1)) {
      Finish(*job, FinishReason::kFailed,
             absl::InternalError("key-value cache pages were counted wrongly"));
      continue;
    }
    InputToken token{
        .token = job->result.tokens.back(),
        .row = {static_cast<int32_t>(job->length), job->pages->pages()},
        .wanted = true};
    if (job->trunk != nullptr) {
      std::vector<float>& inputs = job->trunk->inputs;
      inputs.resize(inputs.size() + config_.hidden_size);
      token.trunk = inputs.data() + inputs.size() - config_.hidden_size;
    }
    tokens.push_back(token);
    rows.push_back(job.get());
    ++job->length;
  }
}

void GenerationLoop::RunPass(const std::vector<InputToken>& tokens,
                             const std::vector<Job*>& rows,
                             const std::vector<Group*>& completed) {
  state_.forward.Run(tokens, 0, keep_trunk_);
  const int decodes = static_cast<int>(rows.size());
  if (decodes > 0) {
    const LogitRows all = state_.forward.Logits(0, decodes);
    std::vector<const float*> logits;
    for (int i = 0; i < decodes; ++i) logits.push_back(all.row(i));
    DrawTokens(rows, logits);
  }
  const int prompts = static_cast<int>(completed.size());
  for (int at = 0; at < prompts; at += kLogitRows) {
    const int count = std::min(kLogitRows, prompts - at);
    const LogitRows all = state_.forward.Logits(decodes + at, count);
    for (int i = 0; i < count; ++i) {
      completed[at + i]->logits.assign(all.row(i),
                                       all.row(i) + config_.vocab_size);
    }
  }
}

void GenerationLoop::ForkReady() {
  std::vector<Job*> fresh;
  std::vector<const float*> logits;
  std::vector<std::shared_ptr<Group>> groups;
  for (const auto& job : active_) {
    if (job->group == nullptr || !job->group->ready()) continue;
    groups.push_back(std::move(job->group));
    Group& group = *groups.back();
    job->pages = group.pages->Fork(job->length);
    if (job->pages == nullptr) {
      // Admit has set the pages aside, so only a defect leads here.
      Finish(*job, FinishReason::kFailed,
             absl::InternalError("key-value cache pages were counted wrongly"));
    } else {
      if (keep_trunk_ > 0)
        job->trunk = std::make_shared<Trunk>(Trunk{keep_trunk_, group.trunk});
      fresh.push_back(job.get());
      logits.push_back(group.logits.data());
    }
    --group.waiting;
  }
  DrawTokens(fresh, logits);
  for (const auto& group : groups) {
    // Samples still waiting for a place share the prompt later.
    if (group->waiting == 0) group->Forget();
  }
}

const float* GenerationLoop::Adjusted(Job& job, const float* logits) {
  const SamplingOptions& sampling = *job.request.sampling;
  const bool early =
      static_cast<int64_t>(job.result.tokens.size()) < sampling.min_new_tokens;
  const bool penalised = sampling.repetition_penalty != 1;
  if (!early && !penalised) return logits;
  job.adjusted.assign(logits, logits + config_.vocab_size);
  if (penalised) {
    const auto penalty = static_cast<float>(sampling.repetition_penalty);
    for (const int32_t token : job.seen) {
      float& logit = job.adjusted[token];
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  if (early) {
    for (const int32_t token : job.StopTokens(options_, config_)) {
      if (token >= 0 && token < config_.vocab_size)
        job.adjusted[token] = kBanned;
    }
  }
  return job.adjusted.data();
}

void GenerationLoop::DrawTokens(const std::vector<Job*>& jobs,
                                const std::vector<const float*>& logits) {
  std::vector<Draw> draws(jobs.size());
  for (size_t i = 0; i < draws.size(); ++i) {
    draws[i].raw = logits[i];
    draws[i].logits = Adjusted(*jobs[i], logits[i]);
    draws[i].options = &*jobs[i]->request.sampling;
    draws[i].seed = jobs[i]->request.seed;
    draws[i].counter = jobs[i]->result.tokens.size();
  }
  SampleRows(config_.vocab_size, draws.data(), static_cast<int>(draws.size()),
             at::get_num_threads());
  for (size_t i = 0; i < draws.size(); ++i) Accept(*jobs[i], draws[i]);
}

void GenerationLoop::Accept(Job& job, const Draw& draw) {
  GenerationResult& result = job.result;
  if (!draw.finite || !std::isfinite(draw.logprob) ||
      !std::isfinite(draw.untempered)) {
    return Finish(job, FinishReason::kFailed,
                  absl::DataLossError(absl::StrCat(
                      "sample '", result.id, "': NaN or infinite ",
                      draw.finite ? "log-prob" : "logits",
                      " at response token ", result.tokens.size())));
  }
  if (statistics_.generated_tokens++ == 0)
    statistics_.first_token_seconds = Seconds(began_);
  result.tokens.push_back(draw.token);
  result.logprobs.push_back(draw.logprob);
  result.untempered_logprobs.push_back(draw.untempered);
  const int size = static_cast<int>(result.tokens.size());
  if (!result.spans.empty() && result.spans.back().policy_version == version_) {
    result.spans.back().end = size;
  } else {
    result.spans.push_back({size - 1, size, version_});
  }
  if (job.request.top_logprobs > 0) {
    result.top_logprobs.push_back(TopLogprobs(draw.raw, config_.vocab_size,
                                              job.request.top_logprobs,
                                              {draw.token, draw.untempered}));
  }
  if (job.request.sampling->repetition_penalty != 1 &&
      !Holds(job.seen, draw.token)) {
    job.seen.push_back(draw.token);
  }
  const bool last = Holds(job.StopTokens(options_, config_), draw.token);
  const bool go_on = !job.request.on_token || job.request.on_token(result);
  if (last || !go_on) return Finish(job, FinishReason::kStop);
  if (size >= job.limit) Finish(job, FinishReason::kLength);
}

bool GenerationLoop::Step() {
  Admit();
  DropFinished();
  if (active_.empty()) return !waiting_.empty();
  const auto start = std::chrono::steady_clock::now();
  std::vector<InputToken> tokens;
  std::vector<Job*> rows;
  std::vector<Group*> completed;
  if (options_.interleave_prefill) AppendDecodes(tokens, rows);
  const size_t decodes = tokens.size();
  AppendPrompts(options_.prefill_tokens, tokens, completed);
  const auto prompts = static_cast<int64_t>(tokens.size() - decodes);
  if (tokens.empty()) AppendDecodes(tokens, rows);
  if (!tokens.empty()) RunPass(tokens, rows, completed);
  ForkReady();
  DropFinished();
  statistics_.prompt_tokens += prompts;
  if (!rows.empty()) ++statistics_.decode_steps;
  (prompts > 0 ? statistics_.prefill_seconds : statistics_.decode_seconds) +=
      Seconds(start);
  return !idle();
}

void GenerationLoop::DropFinished() {
  std::erase_if(active_, [](const auto& job) { return job->finished; });
}
}  // namespace mpo::generation
