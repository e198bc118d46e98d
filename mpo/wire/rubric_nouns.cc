// SPDX-License-Identifier: Apache-2.0
// Rubrics and verdicts.
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/wire/enums.h"
#include "mpo/wire/nouns.h"

namespace mpo::wire {
namespace {

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

}  // namespace mpo::wire
