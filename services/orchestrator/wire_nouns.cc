// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/wire_nouns.h"

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::orchestrator {
namespace {

// Every enum of the wire is ours in the same order, one up: zero is
// _UNSPECIFIED.
template <typename Wire, typename Ours>
Wire EnumToProto(Ours value) {
  return static_cast<Wire>(static_cast<int>(value) + 1);
}

template <typename Ours, typename Wire>
absl::StatusOr<Ours> EnumFromProto(const char* field, Wire value, Wire last) {
  if (value < 1 || value > last) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected 1..", static_cast<int>(last), ", got ",
                     static_cast<int>(value)));
  }
  return static_cast<Ours>(static_cast<int>(value) - 1);
}

static_assert(static_cast<int>(FinishReason::kFailed) + 1 ==
              v1::FINISH_REASON_FAILED);
static_assert(static_cast<int>(UnscorableReason::kInvalidResponse) + 1 ==
              v1::UNSCORABLE_REASON_INVALID_RESPONSE);
static_assert(static_cast<int>(Aggregation::kSaturating) + 1 ==
              v1::AGGREGATION_SATURATING);
static_assert(static_cast<int>(RewardScale::kRunning) + 1 ==
              v1::REWARD_SCALE_RUNNING);
static_assert(static_cast<int>(Tier::kPitfall) + 1 == v1::TIER_PITFALL);
static_assert(static_cast<int>(CriterionMode::kShadow) + 1 ==
              v1::CRITERION_MODE_SHADOW);
static_assert(static_cast<int>(Executor::kProgram) + 1 == v1::EXECUTOR_PROGRAM);
static_assert(static_cast<int>(Polarity::kDeduct) + 1 == v1::POLARITY_DEDUCT);

v1::Criterion CriterionToProto(const Criterion& criterion) {
  v1::Criterion proto;
  proto.set_id(criterion.id);
  proto.set_title(criterion.title);
  proto.set_text(criterion.text);
  proto.set_minimum(criterion.minimum);
  proto.set_maximum(criterion.maximum);
  proto.set_weight(criterion.weight);
  proto.set_polarity(EnumToProto<v1::Polarity>(criterion.polarity));
  proto.set_tier(EnumToProto<v1::Tier>(criterion.tier));
  proto.set_mode(EnumToProto<v1::CriterionMode>(criterion.mode));
  proto.set_executor(EnumToProto<v1::Executor>(criterion.executor));
  proto.mutable_levels()->insert(criterion.levels.begin(),
                                 criterion.levels.end());
  if (criterion.check) {
    proto.mutable_check()->set_name(criterion.check->name);
    proto.mutable_check()->set_zero_at(criterion.check->zero_at);
    proto.mutable_check()->set_saturate_at(criterion.check->saturate_at);
  }
  return proto;
}

absl::StatusOr<Criterion> CriterionFromProto(const v1::Criterion& proto) {
  Criterion criterion;
  criterion.id = proto.id();
  criterion.title = proto.title();
  criterion.text = proto.text();
  criterion.minimum = proto.minimum();
  criterion.maximum = proto.maximum();
  criterion.weight = proto.weight();
  MPO_ASSIGN_OR_RETURN(criterion.polarity,
                       EnumFromProto<Polarity>("polarity", proto.polarity(),
                                               v1::POLARITY_DEDUCT));
  MPO_ASSIGN_OR_RETURN(criterion.tier, EnumFromProto<Tier>("tier", proto.tier(),
                                                           v1::TIER_PITFALL));
  MPO_ASSIGN_OR_RETURN(criterion.mode,
                       EnumFromProto<CriterionMode>("mode", proto.mode(),
                                                    v1::CRITERION_MODE_SHADOW));
  MPO_ASSIGN_OR_RETURN(criterion.executor,
                       EnumFromProto<Executor>("executor", proto.executor(),
                                               v1::EXECUTOR_PROGRAM));
  criterion.levels.insert(proto.levels().begin(), proto.levels().end());
  if (proto.has_check()) {
    criterion.check = Check{.name = proto.check().name(),
                            .zero_at = proto.check().zero_at(),
                            .saturate_at = proto.check().saturate_at()};
  }
  return criterion;
}

}  // namespace

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

v1::WorkUnit ToProto(const WorkUnit& unit) {
  v1::WorkUnit proto;
  proto.set_id(unit.id);
  proto.set_lease_epoch(unit.lease_epoch);
  proto.set_kind(EnumToProto<v1::WorkKind>(unit.kind));
  proto.set_step(unit.step);
  proto.set_min_policy_version(unit.min_policy_version);
  proto.set_rubric_sha256(unit.rubric_sha256);
  proto.set_monitor_rubric_sha256(unit.monitor_rubric_sha256);
  proto.mutable_sampling()->set_temperature(unit.sampling.temperature);
  proto.mutable_sampling()->set_top_k(unit.sampling.top_k);
  proto.mutable_sampling()->set_top_p(unit.sampling.top_p);
  proto.mutable_sampling()->set_max_new_tokens(unit.sampling.max_new_tokens);
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

v1::Verdict ToProto(const Verdict& verdict) {
  v1::Verdict proto;
  proto.set_rubric_sha256(verdict.rubric_sha256);
  proto.set_judge(verdict.judge);
  if (!verdict.scored) {
    proto.mutable_unscorable()->set_reason(
        EnumToProto<v1::UnscorableReason>(verdict.reason));
    proto.mutable_unscorable()->set_detail(verdict.detail);
    return proto;
  }
  v1::Verdict::Scored* const scored = proto.mutable_scored();
  for (const CriterionScore& score : verdict.criteria) {
    v1::CriterionScore* const one = scored->add_criteria();
    one->set_id(score.id);
    one->set_score(score.score);
    one->set_minimum(score.minimum);
    one->set_maximum(score.maximum);
    one->set_rationale(score.rationale);
  }
  scored->set_raw(verdict.raw);
  scored->set_maximum(verdict.maximum);
  scored->set_reward(verdict.reward);
  return proto;
}

v1::Rubric ToProto(const Rubric& rubric) {
  v1::Rubric proto;
  proto.set_id(rubric.id);
  proto.set_scope(rubric.scope);
  proto.set_aggregation(EnumToProto<v1::Aggregation>(rubric.aggregation));
  proto.set_scale(EnumToProto<v1::RewardScale>(rubric.scale));
  for (const Criterion& criterion : rubric.criteria) {
    *proto.add_criteria() = CriterionToProto(criterion);
  }
  return proto;
}

absl::StatusOr<FinishReason> FromProto(v1::FinishReason reason) {
  return EnumFromProto<FinishReason>("finish_reason", reason,
                                     v1::FINISH_REASON_FAILED);
}

absl::StatusOr<Verdict> FromProto(const v1::Verdict& proto) {
  Verdict verdict;
  verdict.rubric_sha256 = proto.rubric_sha256();
  verdict.judge = proto.judge();
  switch (proto.outcome_case()) {
    case v1::Verdict::kUnscorable: {
      MPO_ASSIGN_OR_RETURN(verdict.reason,
                           EnumFromProto<UnscorableReason>(
                               "unscorable.reason", proto.unscorable().reason(),
                               v1::UNSCORABLE_REASON_INVALID_RESPONSE));
      verdict.detail = proto.unscorable().detail();
      return verdict;
    }
    case v1::Verdict::kScored:
      break;
    default:
      return absl::InvalidArgumentError(
          "verdict: expected scored or unscorable, got neither");
  }
  verdict.scored = true;
  for (const v1::CriterionScore& score : proto.scored().criteria()) {
    verdict.criteria.push_back({.id = score.id(),
                                .score = score.score(),
                                .minimum = score.minimum(),
                                .maximum = score.maximum(),
                                .rationale = score.rationale()});
  }
  verdict.raw = proto.scored().raw();
  verdict.maximum = proto.scored().maximum();
  verdict.reward = proto.scored().reward();
  return verdict;
}

absl::StatusOr<Rubric> FromProto(const v1::Rubric& proto) {
  Rubric rubric;
  rubric.id = proto.id();
  rubric.scope = proto.scope();
  MPO_ASSIGN_OR_RETURN(
      rubric.aggregation,
      EnumFromProto<Aggregation>("aggregation", proto.aggregation(),
                                 v1::AGGREGATION_SATURATING));
  MPO_ASSIGN_OR_RETURN(rubric.scale,
                       EnumFromProto<RewardScale>("scale", proto.scale(),
                                                  v1::REWARD_SCALE_RUNNING));
  for (const v1::Criterion& one : proto.criteria()) {
    absl::StatusOr<Criterion> criterion = CriterionFromProto(one);
    if (!criterion.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "criterion ", one.id(), ": ", criterion.status().message()));
    }
    rubric.criteria.push_back(*std::move(criterion));
  }
  return rubric;
}

BaseStatistics FromProto(const v1::BaseStatistics& proto) {
  return {.mean_logprob = proto.mean_logprob(),
          .worst_window_surprise = proto.worst_window_surprise(),
          .subject_gain = proto.subject_gain()};
}

}  // namespace mpo::orchestrator
