// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/wire.h"

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::reward_server {
namespace {

// Every enum of the wire is ours in the same order, one up: zero is
// _UNSPECIFIED.
template <typename Wire, typename Ours>
Wire EnumToProto(Ours value) {
  return static_cast<Wire>(static_cast<int>(value) + 1);
}

template <typename Ours, typename Wire>
absl::Status EnumFromProto(const std::string& field, Wire value, Wire last,
                           Ours& out) {
  if (value < 1 || value > last) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected 1..", static_cast<int>(last), ", got ",
                     static_cast<int>(value)));
  }
  out = static_cast<Ours>(static_cast<int>(value) - 1);
  return absl::OkStatus();
}

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
  if (criterion.check.has_value()) {
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
  const std::string of = absl::StrCat("criterion ", proto.id(), ": ");
  MPO_RETURN_IF_ERROR(EnumFromProto(of + "polarity", proto.polarity(),
                                    v1::POLARITY_DEDUCT, criterion.polarity));
  MPO_RETURN_IF_ERROR(EnumFromProto(of + "tier", proto.tier(), v1::TIER_PITFALL,
                                    criterion.tier));
  MPO_RETURN_IF_ERROR(EnumFromProto(of + "mode", proto.mode(),
                                    v1::CRITERION_MODE_SHADOW, criterion.mode));
  MPO_RETURN_IF_ERROR(EnumFromProto(of + "executor", proto.executor(),
                                    v1::EXECUTOR_PROGRAM, criterion.executor));
  criterion.levels = {proto.levels().begin(), proto.levels().end()};
  if (proto.has_check()) {
    criterion.check = Check{.name = proto.check().name(),
                            .zero_at = proto.check().zero_at(),
                            .saturate_at = proto.check().saturate_at()};
  }
  return criterion;
}

}  // namespace

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
  v1::Verdict::Scored& scored = *proto.mutable_scored();
  for (const CriterionScore& score : verdict.criteria) {
    v1::CriterionScore& to = *scored.add_criteria();
    to.set_id(score.id);
    to.set_score(score.score);
    to.set_minimum(score.minimum);
    to.set_maximum(score.maximum);
    to.set_rationale(score.rationale);
  }
  scored.set_raw(verdict.raw);
  scored.set_maximum(verdict.maximum);
  scored.set_reward(verdict.reward);
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

judge::JudgeItem FromProto(const v1::ScoreRequest::Item& item) {
  judge::JudgeItem judged;
  const v1::Prompt& prompt = item.prompt();
  judged.prompt.id = prompt.id();
  judged.prompt.task = prompt.task();
  for (const v1::ChatMessage& message : prompt.messages()) {
    judged.prompt.messages.push_back({message.role(), message.content()});
  }
  judged.prompt.text = prompt.text();
  judged.prompt.reference = prompt.reference();
  judged.prompt.subject = prompt.subject();
  judged.prompt.key_terms = {prompt.key_terms().begin(),
                             prompt.key_terms().end()};
  judged.prompt.cluster = prompt.cluster();
  judged.response = item.response();
  if (item.has_base_mean_logprob()) {
    judged.base_mean_logprob = item.base_mean_logprob();
  }
  return judged;
}

absl::StatusOr<Rubric> FromProto(const v1::Rubric& proto) {
  Rubric rubric;
  rubric.id = proto.id();
  rubric.scope = proto.scope();
  MPO_RETURN_IF_ERROR(EnumFromProto("aggregation", proto.aggregation(),
                                    v1::AGGREGATION_SATURATING,
                                    rubric.aggregation));
  MPO_RETURN_IF_ERROR(EnumFromProto("scale", proto.scale(),
                                    v1::REWARD_SCALE_RUNNING, rubric.scale));
  for (const v1::Criterion& criterion : proto.criteria()) {
    MPO_ASSIGN_OR_RETURN(Criterion one, CriterionFromProto(criterion));
    rubric.criteria.push_back(std::move(one));
  }
  return rubric;
}

}  // namespace mpo::reward_server
