// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mpo/v1/meta_reward_service.grpc.pb.h"
#include "services/meta_reward_server/meta_prompts.h"
#include "services/meta_reward_server/refinement_engine.h"

namespace mpo::meta_reward_server {

// MetaRewardService on the wire: converts messages and hands them to the
// engine. Keeps nothing between calls. Thread-safe.
class MetaRewardService final : public v1::MetaRewardService::CallbackService {
 public:
  // Evidence larger than this is refused with INVALID_ARGUMENT.
  static constexpr int kMaxEvidence = 8192;

  // `engine` must outlive the service; `limits` are those of AssessRubric.
  MetaRewardService(RefinementEngine& engine, PromptLimits limits);

  // Progress may be left out when the caller reads slowly; the proposal never.
  // A cancelled call leaves the refinement, which stops when nobody waits.
  grpc::ServerWriteReactor<v1::RefineResponse>* Refine(
      grpc::CallbackServerContext* context,
      const v1::RefineRequest* request) override;
  grpc::ServerUnaryReactor* AssessRubric(
      grpc::CallbackServerContext* context,
      const v1::AssessRubricRequest* request,
      v1::AssessRubricResponse* response) override;

 private:
  RefinementEngine& engine_;
  const PromptLimits limits_;
};

}  // namespace mpo::meta_reward_server
