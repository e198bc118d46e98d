// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/base_measurement.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/evaluation/subject.h"

namespace mpo::rollout_actor {
namespace {

using generation::ScoreRequest;
using generation::ScoreResult;

constexpr size_t kMaxRememberedSubjects = 100'000;

double Mean(absl::Span<const float> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

absl::StatusOr<double> MeanOf(const ScoreResult& result) {
  if (!result.status.ok()) return result.status;
  const double mean =
      result.logprobs.empty() ? std::nan("") : Mean(result.logprobs);
  if (!std::isfinite(mean)) {
    return absl::DataLossError(
        absl::StrCat(result.id, ": the base's log-probs are not finite"));
  }
  return mean;
}

}  // namespace

BaseStatistics StatisticsOf(absl::Span<const float> logprobs) {
  BaseStatistics statistics;
  statistics.mean_logprob = Mean(logprobs);
  const size_t window = std::min<size_t>(kSurpriseWindow, logprobs.size());
  double worst = -Mean(logprobs.subspan(0, window));
  for (size_t at = 1; at + window <= logprobs.size(); ++at) {
    worst = std::max(worst, -Mean(logprobs.subspan(at, window)));
  }
  statistics.worst_window_surprise = worst;
  return statistics;
}

BaseMeasurement::BaseMeasurement(generation::Engine& engine,
                                 const text::Tokenizer& tokenizer)
    : engine_(engine), tokenizer_(tokenizer) {
  if (const auto id = tokenizer.IdOf("<|endoftext|>")) {
    start_ = {*id};
  } else if (engine.model().config().bos_token >= 0) {
    start_ = {engine.model().config().bos_token};
  }
}

absl::StatusOr<ScoreRequest> BaseMeasurement::Probe(const std::string& context,
                                                    const std::string& target) {
  MPO_ASSIGN_OR_RETURN(const auto context_tokens, tokenizer_.Encode(context));
  MPO_ASSIGN_OR_RETURN(const auto target_tokens, tokenizer_.Encode(target));
  const size_t room = static_cast<size_t>(engine_.model().config().context);
  const size_t fixed = start_.size() + target_tokens.size();
  if (target_tokens.empty() || fixed + 1 > room) {
    return absl::InvalidArgumentError(
        absl::StrCat("subject of ", target_tokens.size(),
                     " tokens, expected 1 to ", room - 1 - start_.size()));
  }
  const size_t kept = std::min(context_tokens.size(), room - fixed);
  ScoreRequest request;
  request.tokens = start_;
  request.tokens.insert(request.tokens.end(), context_tokens.end() - kept,
                        context_tokens.end());
  request.first_scored = static_cast<int>(request.tokens.size());
  request.tokens.insert(request.tokens.end(), target_tokens.begin(),
                        target_tokens.end());
  return request;
}

absl::StatusOr<double> BaseMeasurement::Alone(const Prompt& prompt,
                                              std::stop_token stop) {
  const auto known = alone_.find(prompt.subject);
  if (known != alone_.end()) return known->second;
  const auto probe = evaluation::MakeSubjectProbe(prompt, "");
  MPO_ASSIGN_OR_RETURN(ScoreRequest request, Probe(probe.alone, probe.target));
  request.id = absl::StrCat("subject of \"", prompt.id, "\"");
  MPO_ASSIGN_OR_RETURN(const std::vector<ScoreResult> results,
                       engine_.LogProbs({request}, /*adapter=*/nullptr, stop));
  MPO_ASSIGN_OR_RETURN(const double mean, MeanOf(results[0]));
  if (alone_.size() >= kMaxRememberedSubjects) alone_.clear();
  alone_[prompt.subject] = mean;
  return mean;
}

absl::StatusOr<std::vector<absl::StatusOr<BaseStatistics>>>
BaseMeasurement::Measure(const std::vector<MeasuredResponse>& responses,
                         std::stop_token stop) {
  std::vector<ScoreRequest> own;
  std::vector<ScoreRequest> after;
  std::vector<double> alone;     // Of the same responses as `after`.
  std::vector<size_t> after_of;  // Which response that is.
  std::vector<absl::Status> status(responses.size());
  for (size_t i = 0; i < responses.size(); ++i) {
    const MeasuredResponse& response = responses[i];
    ScoreRequest request;
    request.id = absl::StrCat("response to \"", response.prompt->id, "\"");
    request.tokens = *response.prompt_tokens;
    request.first_scored = static_cast<int>(request.tokens.size());
    request.tokens.insert(request.tokens.end(),
                          response.response_tokens->begin(),
                          response.response_tokens->end());
    request.trunk = response.trunk;
    own.push_back(std::move(request));
    if (response.prompt->subject.empty()) continue;
    const auto before = Alone(*response.prompt, stop);
    if (absl::IsCancelled(before.status())) return before.status();
    const auto probe =
        evaluation::MakeSubjectProbe(*response.prompt, response.text);
    auto probed = Probe(probe.after_text, probe.target);
    status[i] = before.status();
    status[i].Update(probed.status());
    if (!status[i].ok()) continue;
    probed->id = absl::StrCat("subject after \"", response.prompt->id, "\"");
    after.push_back(*std::move(probed));
    alone.push_back(*before);
    after_of.push_back(i);
  }
  if (own.empty()) return std::vector<absl::StatusOr<BaseStatistics>>();
  MPO_ASSIGN_OR_RETURN(const std::vector<ScoreResult> own_results,
                       engine_.LogProbs(own, /*adapter=*/nullptr, stop));
  std::vector<double> gains(responses.size(), 0.0);
  if (!after.empty()) {
    MPO_ASSIGN_OR_RETURN(const std::vector<ScoreResult> after_results,
                         engine_.LogProbs(after, /*adapter=*/nullptr, stop));
    for (size_t i = 0; i < after.size(); ++i) {
      const auto mean = MeanOf(after_results[i]);
      status[after_of[i]].Update(mean.status());
      if (mean.ok()) gains[after_of[i]] = *mean - alone[i];
    }
  }
  std::vector<absl::StatusOr<BaseStatistics>> measured;
  for (size_t i = 0; i < responses.size(); ++i) {
    status[i].Update(MeanOf(own_results[i]).status());
    if (!status[i].ok()) {
      measured.emplace_back(status[i]);
      continue;
    }
    measured.emplace_back(StatisticsOf(own_results[i].logprobs));
    measured.back()->subject_gain = gains[i];
  }
  return measured;
}

}  // namespace mpo::rollout_actor
