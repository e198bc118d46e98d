// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <thread>

#include "mpo/base/bounded_queue.h"
#include "mpo/v1/policy_learner_service.grpc.pb.h"
#include "services/policy_learner/learner_engine.h"

namespace mpo::policy_learner {

// PolicyLearnerService on the wire. No state of its own but the queue of
// streams whose rollouts are to be written; one thread waits for the disk so
// that no gRPC thread does. Thread-safe.
class LearnerService final : public v1::PolicyLearnerService::CallbackService {
 public:
  // A stream of more than this is refused with RESOURCE_EXHAUSTED.
  static constexpr int kMaxRollouts = 4096;
  static constexpr size_t kMaxStreamBytes = size_t{256} << 20;

  // What is referenced must outlive the service.
  LearnerService(LearnerEngine& engine, RolloutSpool& spool,
                 WeightsPublisher& publisher, LearnerMetrics& metrics);
  ~LearnerService() override;

  grpc::ServerReadReactor<v1::SubmitRolloutsRequest>* SubmitRollouts(
      grpc::CallbackServerContext* context,
      v1::SubmitRolloutsResponse* response) override;
  grpc::ServerWriteReactor<v1::GetWeightsResponse>* GetWeights(
      grpc::CallbackServerContext* context,
      const v1::GetWeightsRequest* request) override;
  grpc::ServerUnaryReactor* SaveCheckpoint(
      grpc::CallbackServerContext* context,
      const v1::SaveCheckpointRequest* request,
      v1::SaveCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* GetStatus(
      grpc::CallbackServerContext* context,
      const v1::GetLearnerStatusRequest* request,
      v1::GetLearnerStatusResponse* response) override;

 private:
  LearnerEngine& engine_;
  RolloutSpool& spool_;
  WeightsPublisher& publisher_;
  LearnerMetrics& metrics_;
  BoundedQueue<std::function<void()>> writes_{64};
  std::jthread writer_;
};

}  // namespace mpo::policy_learner
