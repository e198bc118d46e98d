// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_reward_wire.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::meta_reward_server {
namespace {

// What is wrong, with the name of what it is wrong in.
absl::Status In(const std::string& of, const absl::Status& status) {
  return absl::InvalidArgumentError(
      absl::StrCat(of, ": ", std::string(status.message())));
}

}  // namespace

absl::StatusOr<std::vector<EvidenceItem>> EvidenceFromProto(
    const google::protobuf::RepeatedPtrField<v1::EvidenceItem>& messages) {
  std::vector<EvidenceItem> evidence;
  for (const v1::EvidenceItem& message : messages) {
    EvidenceItem item;
    item.sample_key = message.sample_key();
    item.step = message.step();
    item.prompt = FromProto(message.prompt());
    item.response = message.response();
    absl::StatusOr<Verdict> verdict = FromProto(message.verdict());
    if (!verdict.ok()) {
      return In(absl::StrCat("sample ", message.sample_key()),
                verdict.status());
    }
    item.verdict = *std::move(verdict);
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
  MPO_ASSIGN_OR_RETURN(request.rubric, FromProto(message.rubric()));
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
  *out.mutable_rubric() = ToProto(proposal.rubric);
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
