// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/mesh_ledger.h"

#include <utility>

#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/rpc/channel.h"

namespace mpo::policy_learner {

MeshLedger::MeshLedger(Options options)
    : options_(std::move(options)),
      stub_(v1::OrchestratorService::NewStub(
          rpc::MakeChannel(options_.orchestrator))),
      membership_([this](std::stop_token stop) { KeepMembership(stop); }) {}

MeshLedger::~MeshLedger() = default;

absl::StatusOr<StepAssignment> MeshLedger::AssignBatch(int64_t step,
                                                       absl::Duration wait,
                                                       std::stop_token stop) {
  MPO_RETURN_IF_ERROR(refused());
  v1::AssignBatchRequest request;
  request.set_step(step);
  request.mutable_wait()->set_seconds(absl::ToInt64Seconds(wait));
  v1::AssignBatchResponse response;
  MPO_RETURN_IF_ERROR(rpc::Call({.timeout = wait + options_.call, .stop = stop},
                                [&](grpc::ClientContext& context) {
                                  return stub_->AssignBatch(&context, request,
                                                            &response);
                                }));
  StepAssignment assignment;
  assignment.finished = response.finished();
  if (response.has_batch()) {
    const auto& keys = response.batch().sample_keys();
    assignment.sample_keys.emplace(keys.begin(), keys.end());
  }
  return assignment;
}

absl::Status MeshLedger::CommitStep(
    int64_t step, const std::string& weights_sha256,
    const std::map<std::string, double>& metrics,
    const std::map<std::string, double>& seconds, std::stop_token stop) {
  v1::CommitStepRequest request;
  request.set_step(step);
  request.set_weights_sha256(weights_sha256);
  request.mutable_metrics()->insert(metrics.begin(), metrics.end());
  request.mutable_seconds()->insert(seconds.begin(), seconds.end());
  v1::CommitStepResponse response;
  return rpc::Call({.timeout = options_.call, .stop = stop},
                   [&](grpc::ClientContext& context) {
                     return stub_->CommitStep(&context, request, &response);
                   });
}

absl::Status MeshLedger::refused() const {
  MutexLock lock(mu_);
  return refused_;
}

std::string MeshLedger::Register(std::stop_token stop) {
  v1::RegisterRequest request;
  request.set_role(v1::ROLE_POLICY_LEARNER);
  request.set_name(options_.name);
  request.set_incarnation(options_.incarnation);
  request.set_address(options_.address);
  request.set_config_sha256(options_.config_sha256);
  v1::RegisterResponse response;
  const absl::Status status =
      rpc::Call({.timeout = options_.call, .stop = stop},
                [&](grpc::ClientContext& context) {
                  return stub_->Register(&context, request, &response);
                });
  if (status.ok()) {
    logging::Info("registered", {{"member_id", response.member_id()}});
    return response.member_id();
  }
  if (absl::IsFailedPrecondition(status)) {
    MutexLock lock(mu_);
    refused_ = status;
  }
  return "";
}

void MeshLedger::KeepMembership(std::stop_token stop) {
  std::string member;
  while (!stop.stop_requested()) {
    if (member.empty()) member = Register(stop);
    if (!member.empty()) {
      v1::HeartbeatRequest request;
      request.set_member_id(member);
      request.set_policy_version(options_.policy_version());
      v1::HeartbeatResponse response;
      const absl::Status status =
          rpc::Call({.timeout = options_.call, .stop = stop},
                    [&](grpc::ClientContext& context) {
                      return stub_->Heartbeat(&context, request, &response);
                    });
      if (absl::IsNotFound(status)) {
        member.clear();
        continue;
      }
    }
    MutexLock lock(mu_);
    stopped_.WaitFor(mu_, stop, options_.heartbeat, [] { return false; });
  }
}

}  // namespace mpo::policy_learner
