// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <thread>

#include "mpo/base/bounded_queue.h"
#include "mpo/v1/orchestrator_service.grpc.pb.h"
#include "services/orchestrator/orchestrator_engine.h"

namespace mpo::orchestrator {

// Translates between mpo.v1.OrchestratorService and the engine. Holds no state
// of the run. Reactors never block: calls are queued for one thread of the
// service (RESOURCE_EXHAUSTED when the queue is full), calls that wait for the
// run are answered by the engine. Thread-safe.
class OrchestratorService final
    : public v1::OrchestratorService::CallbackService {
 public:
  // `engine` must outlive the service; the service must outlive its server.
  explicit OrchestratorService(OrchestratorEngine& engine);
  ~OrchestratorService() override;

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override;
  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext* context,
                                      const v1::HeartbeatRequest* request,
                                      v1::HeartbeatResponse* response) override;
  grpc::ServerUnaryReactor* LeaseWork(grpc::CallbackServerContext* context,
                                      const v1::LeaseWorkRequest* request,
                                      v1::LeaseWorkResponse* response) override;
  grpc::ServerUnaryReactor* CompleteWork(
      grpc::CallbackServerContext* context,
      const v1::CompleteWorkRequest* request,
      v1::CompleteWorkResponse* response) override;
  grpc::ServerUnaryReactor* AssignBatch(
      grpc::CallbackServerContext* context,
      const v1::AssignBatchRequest* request,
      v1::AssignBatchResponse* response) override;
  grpc::ServerUnaryReactor* CommitStep(
      grpc::CallbackServerContext* context,
      const v1::CommitStepRequest* request,
      v1::CommitStepResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchRunResponse>* WatchRun(
      grpc::CallbackServerContext* context,
      const v1::WatchRunRequest* request) override;
  grpc::ServerUnaryReactor* PauseRun(grpc::CallbackServerContext* context,
                                     const v1::PauseRunRequest* request,
                                     v1::PauseRunResponse* response) override;
  grpc::ServerUnaryReactor* ResumeRun(grpc::CallbackServerContext* context,
                                      const v1::ResumeRunRequest* request,
                                      v1::ResumeRunResponse* response) override;
  grpc::ServerUnaryReactor* StopRun(grpc::CallbackServerContext* context,
                                    const v1::StopRunRequest* request,
                                    v1::StopRunResponse* response) override;
  grpc::ServerUnaryReactor* ListSteps(grpc::CallbackServerContext* context,
                                      const v1::ListStepsRequest* request,
                                      v1::ListStepsResponse* response) override;
  grpc::ServerUnaryReactor* ListSamples(
      grpc::CallbackServerContext* context,
      const v1::ListSamplesRequest* request,
      v1::ListSamplesResponse* response) override;
  grpc::ServerUnaryReactor* ListRubrics(
      grpc::CallbackServerContext* context,
      const v1::ListRubricsRequest* request,
      v1::ListRubricsResponse* response) override;
  grpc::ServerUnaryReactor* GetRubric(grpc::CallbackServerContext* context,
                                      const v1::GetRubricRequest* request,
                                      v1::GetRubricResponse* response) override;
  grpc::ServerUnaryReactor* ProposeRubric(
      grpc::CallbackServerContext* context,
      const v1::ProposeRubricRequest* request,
      v1::ProposeRubricResponse* response) override;
  grpc::ServerUnaryReactor* ActivateRubric(
      grpc::CallbackServerContext* context,
      const v1::ActivateRubricRequest* request,
      v1::ActivateRubricResponse* response) override;
  grpc::ServerUnaryReactor* RollbackRubric(
      grpc::CallbackServerContext* context,
      const v1::RollbackRubricRequest* request,
      v1::RollbackRubricResponse* response) override;

 private:
  // Runs `call` on the service's thread and finishes the RPC with its status.
  grpc::ServerUnaryReactor* Queue(grpc::CallbackServerContext* context,
                                  std::function<absl::Status()> call);

  OrchestratorEngine& engine_;
  BoundedQueue<std::function<void()>> calls_;
  std::jthread worker_;
};

}  // namespace mpo::orchestrator
