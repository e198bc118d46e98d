// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <stop_token>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/types/refinement.h"
#include "mpo/v1/meta_reward_service.grpc.pb.h"

namespace mpo::orchestrator {

// Asks a meta-reward server for refinements. Thread-safe.
class MetaReviewer {
 public:
  // `timeout` bounds one refinement; a meta-judge model may need minutes.
  MetaReviewer(std::shared_ptr<grpc::Channel> channel, absl::Duration timeout);

  // Blocks until the proposal is there; CANCELLED on stop. The codes of
  // mpo.v1.MetaRewardService.Refine, and UNAVAILABLE for a stream that ended
  // without a proposal or with one that is not understood.
  absl::StatusOr<RefinementProposal> Ask(const RefinementRequest& request,
                                         std::stop_token stop);

 private:
  const std::unique_ptr<v1::MetaRewardService::Stub> stub_;
  const absl::Duration timeout_;
};

}  // namespace mpo::orchestrator
