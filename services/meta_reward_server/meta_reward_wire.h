// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/refinement.h"
#include "mpo/v1/meta_reward_service.pb.h"
#include "mpo/wire/nouns.h"
#include "services/meta_reward_server/assess.h"
#include "services/meta_reward_server/refiner.h"

namespace mpo::meta_reward_server {

using wire::FromProto;
using wire::ToProto;

// Between the messages of meta_reward_service.proto and plain types.
// INVALID_ARGUMENT where an enum is unknown or unspecified, a rubric or verdict
// is missing; the message names the sample or criterion.

absl::StatusOr<std::vector<EvidenceItem>> EvidenceFromProto(
    const google::protobuf::RepeatedPtrField<v1::EvidenceItem>& messages);

absl::StatusOr<RefinementRequest> RequestFromProto(
    const v1::RefineRequest& message);

v1::RefineResponse ProgressToProto(const RefinementProgress& progress);
v1::RefineResponse ProposalToProto(const RefinementProposal& proposal);
v1::AssessRubricResponse AssessmentToProto(const Assessment& assessment);

}  // namespace mpo::meta_reward_server
