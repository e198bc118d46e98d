// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/wire.h"

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::rollout_actor {
namespace {

v1::UnscorableReason ToProto(UnscorableReason from) {
  switch (from) {
    case UnscorableReason::kJudgeTimeout:
      return v1::UNSCORABLE_REASON_JUDGE_TIMEOUT;
    case UnscorableReason::kJudgeUnavailable:
      return v1::UNSCORABLE_REASON_JUDGE_UNAVAILABLE;
    case UnscorableReason::kJudgeRateLimited:
      return v1::UNSCORABLE_REASON_JUDGE_RATE_LIMITED;
    case UnscorableReason::kJudgeRefused:
      return v1::UNSCORABLE_REASON_JUDGE_REFUSED;
    case UnscorableReason::kParseError:
      return v1::UNSCORABLE_REASON_PARSE_ERROR;
    case UnscorableReason::kOutOfRange:
      return v1::UNSCORABLE_REASON_OUT_OF_RANGE;
    case UnscorableReason::kMissingCriterion:
      return v1::UNSCORABLE_REASON_MISSING_CRITERION;
    case UnscorableReason::kInvalidResponse:
      return v1::UNSCORABLE_REASON_INVALID_RESPONSE;
  }
  return v1::UNSCORABLE_REASON_UNSPECIFIED;
}

std::optional<UnscorableReason> ReasonOf(v1::UnscorableReason from) {
  for (const UnscorableReason reason :
       {UnscorableReason::kJudgeTimeout, UnscorableReason::kJudgeUnavailable,
        UnscorableReason::kJudgeRateLimited, UnscorableReason::kJudgeRefused,
        UnscorableReason::kParseError, UnscorableReason::kOutOfRange,
        UnscorableReason::kMissingCriterion,
        UnscorableReason::kInvalidResponse}) {
    if (ToProto(reason) == from) return reason;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<WorkUnit> UnitOf(const v1::WorkUnit& from) {
  WorkUnit unit;
  unit.id = from.id();
  if (from.kind() == v1::WORK_KIND_TRAINING) {
    unit.kind = WorkKind::kTraining;
  } else if (from.kind() == v1::WORK_KIND_EVALUATION) {
    unit.kind = WorkKind::kEvaluation;
  } else {
    return absl::InternalError(absl::StrCat(
        "unit ", from.id(), ": unknown kind ", static_cast<int>(from.kind())));
  }
  if (from.id().empty() || from.samples().empty() || !from.has_sampling()) {
    return absl::InternalError(absl::StrCat(
        "unit \"", from.id(), "\" lacks its id, samples or sampling"));
  }
  unit.lease_epoch = from.lease_epoch();
  unit.step = from.step();
  unit.min_policy_version = from.min_policy_version();
  unit.rubric_sha256 = from.rubric_sha256();
  unit.monitor_rubric_sha256 = from.monitor_rubric_sha256();
  unit.sampling = SamplingOf(from.sampling());
  for (const v1::Sample& sample : from.samples()) {
    unit.samples.push_back({sample.key(), sample.step(), sample.replica(),
                            sample.seed(), PromptOf(sample.prompt())});
  }
  return unit;
}

absl::StatusOr<Verdict> VerdictOf(const v1::Verdict& from,
                                  const std::string& sample_key) {
  Verdict verdict;
  verdict.rubric_sha256 = from.rubric_sha256();
  verdict.judge = from.judge();
  if (from.has_unscorable()) {
    const auto reason = ReasonOf(from.unscorable().reason());
    if (reason.has_value()) {
      verdict.reason = *reason;
      verdict.detail = from.unscorable().detail();
      return verdict;
    }
  } else if (from.has_scored()) {
    verdict.scored = true;
    verdict.raw = from.scored().raw();
    verdict.maximum = from.scored().maximum();
    verdict.reward = from.scored().reward();
    for (const v1::CriterionScore& score : from.scored().criteria()) {
      verdict.criteria.push_back({score.id(), score.score(), score.minimum(),
                                  score.maximum(), score.rationale()});
    }
    return verdict;
  }
  return absl::InternalError(
      absl::StrCat("verdict of sample ", sample_key,
                   " is neither scored nor unscorable with a reason"));
}

Prompt PromptOf(const v1::Prompt& from) {
  Prompt prompt;
  prompt.id = from.id();
  prompt.task = from.task();
  for (const v1::ChatMessage& message : from.messages()) {
    prompt.messages.push_back({message.role(), message.content()});
  }
  prompt.text = from.text();
  prompt.reference = from.reference();
  prompt.subject = from.subject();
  prompt.key_terms.assign(from.key_terms().begin(), from.key_terms().end());
  prompt.cluster = from.cluster();
  return prompt;
}

SamplingOptions SamplingOf(const v1::SamplingOptions& from) {
  SamplingOptions sampling;
  sampling.temperature = from.temperature();
  sampling.top_k = from.top_k();
  sampling.top_p = from.top_p();
  sampling.max_new_tokens = from.max_new_tokens();
  return sampling;
}

weights::Manifest ManifestOf(const v1::WeightsManifest& from) {
  weights::Manifest manifest;
  manifest.version = from.version();
  manifest.kind = from.kind();
  manifest.adapter_config = from.adapter_config();
  manifest.total_bytes = from.total_bytes();
  for (const v1::WeightsManifest::Tensor& tensor : from.tensors()) {
    manifest.tensors.push_back({tensor.name(),
                                tensor.dtype(),
                                {tensor.shape().begin(), tensor.shape().end()},
                                tensor.bytes(),
                                tensor.sha256()});
  }
  return manifest;
}

v1::Prompt ToProto(const Prompt& from) {
  v1::Prompt prompt;
  prompt.set_id(from.id);
  prompt.set_task(from.task);
  for (const ChatMessage& message : from.messages) {
    v1::ChatMessage& to = *prompt.add_messages();
    to.set_role(message.role);
    to.set_content(message.content);
  }
  prompt.set_text(from.text);
  prompt.set_reference(from.reference);
  prompt.set_subject(from.subject);
  prompt.mutable_key_terms()->Assign(from.key_terms.begin(),
                                     from.key_terms.end());
  prompt.set_cluster(from.cluster);
  return prompt;
}

v1::FinishReason ToProto(FinishReason from) {
  switch (from) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kFailed:
      return v1::FINISH_REASON_FAILED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::Verdict ToProto(const Verdict& from) {
  v1::Verdict verdict;
  verdict.set_rubric_sha256(from.rubric_sha256);
  verdict.set_judge(from.judge);
  if (!from.scored) {
    verdict.mutable_unscorable()->set_reason(ToProto(from.reason));
    verdict.mutable_unscorable()->set_detail(from.detail);
    return verdict;
  }
  v1::Verdict::Scored& scored = *verdict.mutable_scored();
  scored.set_raw(from.raw);
  scored.set_maximum(from.maximum);
  scored.set_reward(from.reward);
  for (const CriterionScore& score : from.criteria) {
    v1::CriterionScore& to = *scored.add_criteria();
    to.set_id(score.id);
    to.set_score(score.score);
    to.set_minimum(score.minimum);
    to.set_maximum(score.maximum);
    to.set_rationale(score.rationale);
  }
  return verdict;
}

v1::Rollout ToProto(const Rollout& from) {
  v1::Rollout rollout;
  rollout.set_sample_key(from.sample_key);
  rollout.set_step(from.step);
  rollout.set_group(from.group);
  rollout.mutable_prompt_tokens()->Assign(from.prompt_tokens.begin(),
                                          from.prompt_tokens.end());
  rollout.mutable_response_tokens()->Assign(from.response_tokens.begin(),
                                            from.response_tokens.end());
  rollout.mutable_logprobs()->Assign(from.logprobs.begin(),
                                     from.logprobs.end());
  for (const TokenSpan& span : from.spans) {
    v1::TokenSpan& to = *rollout.add_spans();
    to.set_begin(span.begin);
    to.set_end(span.end);
    to.set_policy_version(span.policy_version);
  }
  rollout.set_finish_reason(ToProto(from.finish_reason));
  rollout.set_temperature(from.temperature);
  rollout.set_text(from.text);
  return rollout;
}

v1::SampleOutcome ToProto(const SampleOutcome& from) {
  v1::SampleOutcome outcome;
  outcome.set_sample_key(from.sample_key);
  outcome.set_text(from.text);
  outcome.set_response_tokens(from.response_tokens);
  outcome.set_finish_reason(ToProto(from.finish_reason));
  outcome.set_policy_version(from.policy_version);
  *outcome.mutable_verdict() = ToProto(from.verdict);
  if (from.monitor) *outcome.mutable_monitor() = ToProto(*from.monitor);
  if (from.base) {
    v1::BaseStatistics& base = *outcome.mutable_base();
    base.set_mean_logprob(from.base->mean_logprob);
    base.set_worst_window_surprise(from.base->worst_window_surprise);
    base.set_subject_gain(from.base->subject_gain);
  }
  return outcome;
}

}  // namespace mpo::rollout_actor
