// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/meta_reviewer.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/rpc/channel.h"
#include "services/orchestrator/wire.h"

namespace mpo::orchestrator {
namespace {

v1::EvidenceItem EvidenceProto(const EvidenceItem& item) {
  v1::EvidenceItem proto;
  proto.set_sample_key(item.sample_key);
  proto.set_step(item.step);
  *proto.mutable_prompt() = ToProto(item.prompt);
  proto.set_response(item.response);
  *proto.mutable_verdict() = ToProto(item.verdict);
  proto.set_base_mean_logprob(item.base_mean_logprob);
  return proto;
}

absl::StatusOr<RefinementProposal> ProposalOf(
    const v1::RefineResponse::Proposal& proto) {
  RefinementProposal proposal;
  absl::StatusOr<Rubric> rubric = FromProto(proto.rubric());
  if (!rubric.ok()) {
    return absl::UnavailableError(absl::StrCat(
        "the proposal is not understood: ", rubric.status().message()));
  }
  proposal.rubric = *std::move(rubric);
  for (const v1::RefineResponse::Change& change : proto.changes()) {
    proposal.changes.push_back({.action = change.action(),
                                .criterion = change.criterion(),
                                .reason = change.reason()});
  }
  proposal.analyses.assign(proto.analyses().begin(), proto.analyses().end());
  proposal.memory = proto.memory();
  return proposal;
}

}  // namespace

MetaReviewer::MetaReviewer(std::shared_ptr<grpc::Channel> channel,
                           absl::Duration timeout)
    : stub_(v1::MetaRewardService::NewStub(channel)), timeout_(timeout) {}

absl::StatusOr<RefinementProposal> MetaReviewer::Ask(
    const RefinementRequest& request, std::stop_token stop) {
  v1::RefineRequest proto;
  proto.set_refinement_id(request.id);
  proto.set_task(request.task);
  proto.set_step(request.step);
  *proto.mutable_rubric() = ToProto(request.rubric);
  for (const EvidenceItem& item : request.baseline) {
    *proto.add_baseline() = EvidenceProto(item);
  }
  for (const EvidenceItem& item : request.recent) {
    *proto.add_recent() = EvidenceProto(item);
  }
  proto.set_memory(request.memory);
  std::optional<v1::RefineResponse::Proposal> proposal;
  MPO_RETURN_IF_ERROR(rpc::Call({.timeout = timeout_, .stop = std::move(stop)},
                                [&](grpc::ClientContext& context) {
                                  const auto reader =
                                      stub_->Refine(&context, proto);
                                  v1::RefineResponse response;
                                  while (reader->Read(&response)) {
                                    if (response.has_proposal())
                                      proposal = response.proposal();
                                  }
                                  return reader->Finish();
                                }));
  if (!proposal.has_value()) {
    return absl::UnavailableError(
        "the meta-reward server ended the stream without a proposal");
  }
  return ProposalOf(*proposal);
}

}  // namespace mpo::orchestrator
