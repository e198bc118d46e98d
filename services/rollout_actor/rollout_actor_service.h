// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mpo/v1/rollout_actor_service.grpc.pb.h"
#include "services/rollout_actor/rollout_actor_engine.h"

namespace mpo::rollout_actor {

// RPCs of the actor: translates and hands over to the engine, holds no state
// and never blocks. Thread-safe.
class RolloutActorService final
    : public v1::RolloutActorService::CallbackService {
 public:
  // `engine` must outlive every call.
  explicit RolloutActorService(RolloutActorEngine& engine) : engine_(engine) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context,
      const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetStatus(
      grpc::CallbackServerContext* context,
      const v1::GetActorStatusRequest* request,
      v1::GetActorStatusResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;

 private:
  RolloutActorEngine& engine_;
};

}  // namespace mpo::rollout_actor
