// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_reward_wire.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::meta_reward_server {
namespace {

// The plain enums list the same values in the same order as the proto's, which
// begin with _UNSPECIFIED.
template <typename Plain>
absl::StatusOr<Plain> EnumFromProto(int value, int last, const char* field,
                                    const std::string& of) {
  if (value < 1 || value > last) {
    return absl::InvalidArgumentError(absl::StrCat(
        of, ": ", field, " is unspecified or unknown (", value, ")"));
  }
  return static_cast<Plain>(value - 1);
}

template <typename Message, typename Plain>
Message EnumToProto(Plain value) {
  return static_cast<Message>(static_cast<int>(value) + 1);
}

absl::StatusOr<Criterion> CriterionFromProto(const v1::Criterion& message) {
  const std::string of = absl::StrCat("criterion \"", message.id(), "\"");
  Criterion criterion;
  criterion.id = message.id();
  criterion.title = message.title();
  criterion.text = message.text();
  criterion.minimum = message.minimum();
  criterion.maximum = message.maximum();
  criterion.weight = message.weight();
  MPO_ASSIGN_OR_RETURN(
      criterion.polarity,
      EnumFromProto<Polarity>(message.polarity(), v1::Polarity_MAX, "polarity",
                              of));
  MPO_ASSIGN_OR_RETURN(
      criterion.tier,
      EnumFromProto<Tier>(message.tier(), v1::Tier_MAX, "tier", of));
  MPO_ASSIGN_OR_RETURN(criterion.mode,
                       EnumFromProto<CriterionMode>(
                           message.mode(), v1::CriterionMode_MAX, "mode", of));
  MPO_ASSIGN_OR_RETURN(
      criterion.executor,
      EnumFromProto<Executor>(message.executor(), v1::Executor_MAX, "executor",
                              of));
  criterion.levels.insert(message.levels().begin(), message.levels().end());
  if (message.has_check()) {
    criterion.check = Check{message.check().name(), message.check().zero_at(),
                            message.check().saturate_at()};
  }
  return criterion;
}

Prompt PromptFromProto(const v1::Prompt& message) {
  Prompt prompt;
  prompt.id = message.id();
  prompt.task = message.task();
  for (const v1::ChatMessage& turn : message.messages()) {
    prompt.messages.push_back({turn.role(), turn.content()});
  }
  prompt.text = message.text();
  prompt.reference = message.reference();
  prompt.subject = message.subject();
  prompt.key_terms.assign(message.key_terms().begin(),
                          message.key_terms().end());
  prompt.cluster = message.cluster();
  return prompt;
}

absl::StatusOr<Verdict> VerdictFromProto(const v1::Verdict& message,
                                         const std::string& of) {
  Verdict verdict;
  verdict.rubric_sha256 = message.rubric_sha256();
  verdict.judge = message.judge();
  switch (message.outcome_case()) {
    case v1::Verdict::kScored:
      verdict.scored = true;
      verdict.raw = message.scored().raw();
      verdict.maximum = message.scored().maximum();
      verdict.reward = message.scored().reward();
      for (const v1::CriterionScore& score : message.scored().criteria()) {
        verdict.criteria.push_back({score.id(), score.score(), score.minimum(),
                                    score.maximum(), score.rationale()});
      }
      return verdict;
    case v1::Verdict::kUnscorable: {
      MPO_ASSIGN_OR_RETURN(verdict.reason,
                           EnumFromProto<UnscorableReason>(
                               message.unscorable().reason(),
                               v1::UnscorableReason_MAX, "reason", of));
      verdict.detail = message.unscorable().detail();
      return verdict;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(of, ": the verdict has no outcome"));
  }
}

}  // namespace

absl::StatusOr<Rubric> RubricFromProto(const v1::Rubric& message) {
  const std::string of = absl::StrCat("rubric \"", message.id(), "\"");
  Rubric rubric;
  rubric.id = message.id();
  rubric.scope = message.scope();
  MPO_ASSIGN_OR_RETURN(
      rubric.aggregation,
      EnumFromProto<Aggregation>(message.aggregation(), v1::Aggregation_MAX,
                                 "aggregation", of));
  MPO_ASSIGN_OR_RETURN(rubric.scale,
                       EnumFromProto<RewardScale>(
                           message.scale(), v1::RewardScale_MAX, "scale", of));
  for (const v1::Criterion& item : message.criteria()) {
    MPO_ASSIGN_OR_RETURN(Criterion criterion, CriterionFromProto(item));
    rubric.criteria.push_back(std::move(criterion));
  }
  return rubric;
}

v1::Rubric RubricToProto(const Rubric& rubric) {
  v1::Rubric message;
  message.set_id(rubric.id);
  message.set_scope(rubric.scope);
  message.set_aggregation(EnumToProto<v1::Aggregation>(rubric.aggregation));
  message.set_scale(EnumToProto<v1::RewardScale>(rubric.scale));
  for (const Criterion& criterion : rubric.criteria) {
    v1::Criterion& item = *message.add_criteria();
    item.set_id(criterion.id);
    item.set_title(criterion.title);
    item.set_text(criterion.text);
    item.set_minimum(criterion.minimum);
    item.set_maximum(criterion.maximum);
    item.set_weight(criterion.weight);
    item.set_polarity(EnumToProto<v1::Polarity>(criterion.polarity));
    item.set_tier(EnumToProto<v1::Tier>(criterion.tier));
    item.set_mode(EnumToProto<v1::CriterionMode>(criterion.mode));
    item.set_executor(EnumToProto<v1::Executor>(criterion.executor));
    item.mutable_levels()->insert(criterion.levels.begin(),
                                  criterion.levels.end());
    if (criterion.check.has_value()) {
      item.mutable_check()->set_name(criterion.check->name);
      item.mutable_check()->set_zero_at(criterion.check->zero_at);
      item.mutable_check()->set_saturate_at(criterion.check->saturate_at);
    }
  }
  return message;
}

absl::StatusOr<std::vector<EvidenceItem>> EvidenceFromProto(
    const google::protobuf::RepeatedPtrField<v1::EvidenceItem>& messages) {
  std::vector<EvidenceItem> evidence;
  for (const v1::EvidenceItem& message : messages) {
    EvidenceItem item;
    item.sample_key = message.sample_key();
    item.step = message.step();
    item.prompt = PromptFromProto(message.prompt());
    item.response = message.response();
    MPO_ASSIGN_OR_RETURN(
        item.verdict,
        VerdictFromProto(message.verdict(),
                         absl::StrCat("sample ", message.sample_key())));
    item.base_mean_logprob = message.base_mean_logprob();
    evidence.push_back(std::move(item));
  }
  return evidence;
}

absl::StatusOr<RefinementRequest> RequestFromProto(
    const v1::RefineRequest& message) {
  RefinementRequest request;
  request.id = message.refinement_id();
  request.task = message.task();
  request.step = message.step();
  request.memory = message.memory();
  MPO_ASSIGN_OR_RETURN(request.rubric, RubricFromProto(message.rubric()));
  MPO_ASSIGN_OR_RETURN(request.baseline, EvidenceFromProto(message.baseline()));
  MPO_ASSIGN_OR_RETURN(request.recent, EvidenceFromProto(message.recent()));
  return request;
}

v1::RefineResponse ProgressToProto(const RefinementProgress& progress) {
  v1::RefineResponse message;
  message.mutable_progress()->set_phase(progress.phase);
  message.mutable_progress()->set_done(progress.done);
  message.mutable_progress()->set_total(progress.total);
  return message;
}

v1::RefineResponse ProposalToProto(const RefinementProposal& proposal) {
  v1::RefineResponse message;
  v1::RefineResponse::Proposal& out = *message.mutable_proposal();
  *out.mutable_rubric() = RubricToProto(proposal.rubric);
  for (const RubricChange& change : proposal.changes) {
    v1::RefineResponse::Change& item = *out.add_changes();
    item.set_action(change.action);
    item.set_criterion(change.criterion);
    item.set_reason(change.reason);
  }
  for (const std::string& analysis : proposal.analyses) {
    out.add_analyses(analysis);
  }
  out.set_memory(proposal.memory);
  return message;
}

v1::AssessRubricResponse AssessmentToProto(const Assessment& assessment) {
  v1::AssessRubricResponse message;
  for (const std::string& problem : assessment.problems) {
    message.add_problems(problem);
  }
  message.set_active_mean(assessment.active_mean);
  message.set_candidate_mean(assessment.candidate_mean);
  message.set_rank_correlation(assessment.rank_correlation);
  message.set_candidate_deviation(assessment.candidate_deviation);
  return message;
}

}  // namespace mpo::meta_reward_server
