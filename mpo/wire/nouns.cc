// SPDX-License-Identifier: Apache-2.0
// Prompts, work and rollouts.
#include "mpo/wire/nouns.h"

#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/wire/enums.h"

namespace mpo::wire {

static_assert(std::endian::native == std::endian::little);
static_assert(static_cast<int>(FinishReason::kFailed) + 1 ==
              v1::FINISH_REASON_FAILED);
static_assert(static_cast<int>(WorkKind::kEvaluation) + 1 ==
              v1::WORK_KIND_EVALUATION);

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  absl::Duration rest;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return proto;
}

v1::Prompt ToProto(const Prompt& prompt) {
  v1::Prompt proto;
  proto.set_id(prompt.id);
  proto.set_task(prompt.task);
  for (const ChatMessage& message : prompt.messages) {
    v1::ChatMessage* const one = proto.add_messages();
    one->set_role(message.role);
    one->set_content(message.content);
  }
  proto.set_text(prompt.text);
  proto.set_reference(prompt.reference);
  proto.set_subject(prompt.subject);
  proto.mutable_key_terms()->Assign(prompt.key_terms.begin(),
                                    prompt.key_terms.end());
  proto.set_cluster(prompt.cluster);
  return proto;
}

v1::Sample ToProto(const Sample& sample) {
  v1::Sample proto;
  proto.set_key(sample.key);
  proto.set_step(sample.step);
  proto.set_replica(sample.replica);
  proto.set_seed(sample.seed);
  *proto.mutable_prompt() = ToProto(sample.prompt);
  return proto;
}

v1::SamplingOptions ToProto(const SamplingOptions& sampling) {
  v1::SamplingOptions proto;
  proto.set_temperature(sampling.temperature);
  proto.set_top_k(sampling.top_k);
  proto.set_top_p(sampling.top_p);
  proto.set_max_new_tokens(sampling.max_new_tokens);
  return proto;
}

v1::WorkKind ToProto(WorkKind kind) { return EnumToProto<v1::WorkKind>(kind); }

v1::WorkUnit ToProto(const WorkUnit& unit) {
  v1::WorkUnit proto;
  proto.set_id(unit.id);
  proto.set_lease_epoch(unit.lease_epoch);
  proto.set_kind(ToProto(unit.kind));
  proto.set_step(unit.step);
  proto.set_min_policy_version(unit.min_policy_version);
  proto.set_rubric_sha256(unit.rubric_sha256);
  proto.set_monitor_rubric_sha256(unit.monitor_rubric_sha256);
  *proto.mutable_sampling() = ToProto(unit.sampling);
  for (const Sample& sample : unit.samples) {
    *proto.add_samples() = ToProto(sample);
  }
  return proto;
}

v1::BaseStatistics ToProto(const BaseStatistics& base) {
  v1::BaseStatistics proto;
  proto.set_mean_logprob(base.mean_logprob);
  proto.set_worst_window_surprise(base.worst_window_surprise);
  proto.set_subject_gain(base.subject_gain);
  return proto;
}

v1::FinishReason ToProto(FinishReason reason) {
  return EnumToProto<v1::FinishReason>(reason);
}

v1::Rollout ToProto(const Rollout& rollout) {
  v1::Rollout proto;
  proto.set_sample_key(rollout.sample_key);
  proto.set_step(rollout.step);
  proto.set_group(rollout.group);
  proto.mutable_prompt_tokens()->Assign(rollout.prompt_tokens.begin(),
                                        rollout.prompt_tokens.end());
  proto.mutable_response_tokens()->Assign(rollout.response_tokens.begin(),
                                          rollout.response_tokens.end());
  proto.mutable_logprobs()->Assign(rollout.logprobs.begin(),
                                   rollout.logprobs.end());
  for (const TokenSpan& span : rollout.spans) {
    v1::TokenSpan& one = *proto.add_spans();
    one.set_begin(span.begin);
    one.set_end(span.end);
    one.set_policy_version(span.policy_version);
  }
  proto.set_finish_reason(ToProto(rollout.finish_reason));
  proto.set_temperature(rollout.temperature);
  proto.set_text(rollout.text);
  return proto;
}

Prompt FromProto(const v1::Prompt& proto) {
  Prompt prompt;
  prompt.id = proto.id();
  prompt.task = proto.task();
  for (const v1::ChatMessage& message : proto.messages()) {
    prompt.messages.push_back({message.role(), message.content()});
  }
  prompt.text = proto.text();
  prompt.reference = proto.reference();
  prompt.subject = proto.subject();
  prompt.key_terms.assign(proto.key_terms().begin(), proto.key_terms().end());
  prompt.cluster = proto.cluster();
  return prompt;
}

Sample FromProto(const v1::Sample& proto) {
  return {.key = proto.key(),
          .step = proto.step(),
          .replica = proto.replica(),
          .seed = proto.seed(),
          .prompt = FromProto(proto.prompt())};
}

SamplingOptions FromProto(const v1::SamplingOptions& proto) {
  SamplingOptions sampling;
  sampling.temperature = proto.temperature();
  sampling.top_k = proto.top_k();
  sampling.top_p = proto.top_p();
  sampling.max_new_tokens = proto.max_new_tokens();
  return sampling;
}

BaseStatistics FromProto(const v1::BaseStatistics& proto) {
  return {.mean_logprob = proto.mean_logprob(),
          .worst_window_surprise = proto.worst_window_surprise(),
          .subject_gain = proto.subject_gain()};
}

absl::StatusOr<WorkKind> FromProto(v1::WorkKind kind) {
  return EnumFromProto<WorkKind>("kind", kind, v1::WORK_KIND_EVALUATION);
}

absl::StatusOr<WorkUnit> FromProto(const v1::WorkUnit& proto) {
  WorkUnit unit;
  unit.id = proto.id();
  unit.lease_epoch = proto.lease_epoch();
  MPO_ASSIGN_OR_RETURN(unit.kind, FromProto(proto.kind()));
  unit.step = proto.step();
  unit.min_policy_version = proto.min_policy_version();
  unit.rubric_sha256 = proto.rubric_sha256();
  unit.monitor_rubric_sha256 = proto.monitor_rubric_sha256();
  unit.sampling = FromProto(proto.sampling());
  for (const v1::Sample& sample : proto.samples()) {
    unit.samples.push_back(FromProto(sample));
  }
  return unit;
}

absl::StatusOr<FinishReason> FromProto(v1::FinishReason reason) {
  return EnumFromProto<FinishReason>("finish_reason", reason,
                                     v1::FINISH_REASON_FAILED);
}

absl::StatusOr<Rollout> FromProto(const v1::Rollout& proto) {
  Rollout rollout;
  rollout.sample_key = proto.sample_key();
  rollout.step = proto.step();
  rollout.group = proto.group();
  rollout.prompt_tokens.assign(proto.prompt_tokens().begin(),
                               proto.prompt_tokens().end());
  rollout.response_tokens.assign(proto.response_tokens().begin(),
                                 proto.response_tokens().end());
  rollout.logprobs.assign(proto.logprobs().begin(), proto.logprobs().end());
  for (const v1::TokenSpan& span : proto.spans()) {
    rollout.spans.push_back({span.begin(), span.end(), span.policy_version()});
  }
  MPO_ASSIGN_OR_RETURN(rollout.finish_reason, FromProto(proto.finish_reason()));
  rollout.temperature = proto.temperature();
  rollout.text = proto.text();
  return rollout;
}

v1::Trunk ToProto(const Trunk& trunk) {
  v1::Trunk proto;
  proto.set_layer(trunk.layer);
  proto.set_inputs(trunk.inputs.data(), trunk.inputs.size() * sizeof(float));
  return proto;
}

absl::StatusOr<Trunk> FromProto(const v1::Trunk& proto) {
  const std::string& bytes = proto.inputs();
  if (bytes.size() % sizeof(float) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("trunk.inputs: expected float32 numbers, got ",
                     bytes.size(), " bytes"));
  }
  Trunk trunk{proto.layer(), std::vector<float>(bytes.size() / sizeof(float))};
  std::memcpy(trunk.inputs.data(), bytes.data(), bytes.size());
  return trunk;
}

}  // namespace mpo::wire
