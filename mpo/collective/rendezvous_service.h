// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mpo/collective/rendezvous.h"
#include "mpo/v1/learner_group_service.grpc.pb.h"

namespace mpo::collective {

// LearnerGroupService over a Rendezvous, which must outlive it. Calls of
// another group are answered ABORTED. Never blocks. Thread-safe.
class RendezvousService final
    : public v1::LearnerGroupService::CallbackService {
 public:
  explicit RendezvousService(Rendezvous& rendezvous)
      : rendezvous_(rendezvous) {}

  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* context,
                                 const v1::JoinGroupRequest* request,
                                 v1::JoinGroupResponse* response) override;
  grpc::ServerReadReactor<v1::AttendGroupRequest>* Attend(
      grpc::CallbackServerContext* context,
      v1::AttendGroupResponse* response) override;
  grpc::ServerUnaryReactor* EnterOperation(
      grpc::CallbackServerContext* context,
      const v1::EnterOperationRequest* request,
      v1::EnterOperationResponse* response) override;
  grpc::ServerUnaryReactor* PutKey(grpc::CallbackServerContext* context,
                                   const v1::PutKeyRequest* request,
                                   v1::PutKeyResponse* response) override;
  grpc::ServerUnaryReactor* GetKey(grpc::CallbackServerContext* context,
                                   const v1::GetKeyRequest* request,
                                   v1::GetKeyResponse* response) override;

 private:
  // OK when the call is of this group and of a rank it has.
  absl::Status Check(const std::string& group, int rank) const;

  Rendezvous& rendezvous_;
};

}  // namespace mpo::collective
