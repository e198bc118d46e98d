// SPDX-License-Identifier: Apache-2.0
#include "cli/orchestrator_link.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/rpc/channel.h"
#include "mpo/v1/orchestrator_service.grpc.pb.h"
#include "mpo/wire/nouns.h"

namespace mpo::cli {
namespace {

using v1::OrchestratorService;

RunState FromProto(const v1::WatchRunResponse& from) {
  RunState state{.run = from.run_id(),
                 .reason = from.reason(),
                 .step = from.step(),
                 .total_steps = from.total_steps(),
                 .policy_version = from.policy_version(),
                 .rubric_version = from.rubric_version(),
                 .rubric_sha256 = from.rubric_sha256(),
                 .samples_done = from.samples_done(),
                 .samples_planned = from.samples_planned(),
                 .metrics = {from.metrics().begin(), from.metrics().end()}};
  switch (from.phase()) {
    case v1::RUN_PHASE_GENERATING:
      state.phase = "generating";
      break;
    case v1::RUN_PHASE_TRAINING:
      state.phase = "training";
      break;
    case v1::RUN_PHASE_REFINING:
      state.phase = "refining";
      break;
    case v1::RUN_PHASE_PAUSED:
      state.phase = "paused";
      state.paused = true;
      break;
    case v1::RUN_PHASE_FINISHED:
      state.phase = "finished";
      state.finished = true;
      break;
    default:
      state.phase = "unknown";
  }
  return state;
}

absl::Status Named(const std::string& address, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("orchestrator at ", address, ": ",
                                   std::string(status.message())));
}

}  // namespace

absl::StatusOr<RunState> ReadState(const std::string& address,
                                   absl::Duration timeout) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  std::optional<RunState> state;
  const absl::Status status =
      rpc::Call({.timeout = timeout}, [&](grpc::ClientContext& context) {
        const auto stream = stub->WatchRun(&context, v1::WatchRunRequest());
        v1::WatchRunResponse response;
        if (stream->Read(&response)) state = FromProto(response);
        context.TryCancel();
        return stream->Finish();
      });
  if (state.has_value()) return *state;
  return Named(address,
               status.ok() ? absl::UnavailableError("no state came") : status);
}

RunWatcher::RunWatcher(const std::string& address)
    : thread_([this, address](std::stop_token stop) { Loop(stop, address); }) {}

RunWatcher::~RunWatcher() { thread_.request_stop(); }

std::optional<RunState> RunWatcher::State() const {
  MutexLock lock(mu_);
  return state_;
}

void RunWatcher::Loop(std::stop_token stop, const std::string& address) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  while (!stop.stop_requested()) {
    // A stream without news for that long is opened anew; a vanished server
    // ends it at once.
    (void)rpc::Call({.timeout = absl::Seconds(60), .stop = stop},
                    [&](grpc::ClientContext& context) {
                      const auto stream =
                          stub->WatchRun(&context, v1::WatchRunRequest());
                      v1::WatchRunResponse response;
                      while (stream->Read(&response)) {
                        MutexLock lock(mu_);
                        state_ = FromProto(response);
                      }
                      return stream->Finish();
                    });
    MutexLock lock(mu_);
    changed_.WaitFor(mu_, stop, absl::Milliseconds(200), [] { return false; });
  }
}

absl::Status PauseRun(const std::string& address, const std::string& reason) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  v1::PauseRunRequest request;
  request.set_reason(reason);
  return Named(address, rpc::Call({}, [&](grpc::ClientContext& context) {
                 v1::PauseRunResponse response;
                 return stub->PauseRun(&context, request, &response);
               }));
}

absl::Status ResumeRun(const std::string& address) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  return Named(address, rpc::Call({}, [&](grpc::ClientContext& context) {
                 v1::ResumeRunResponse response;
                 return stub->ResumeRun(&context, v1::ResumeRunRequest(),
                                        &response);
               }));
}

absl::Status StopRun(const std::string& address) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  return Named(address, rpc::Call({}, [&](grpc::ClientContext& context) {
                 v1::StopRunResponse response;
                 return stub->StopRun(&context, v1::StopRunRequest(),
                                      &response);
               }));
}

absl::StatusOr<std::string> ProposeRubric(const std::string& address,
                                          const Rubric& rubric,
                                          const std::string& reason) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  v1::ProposeRubricRequest request;
  *request.mutable_rubric() = wire::ToProto(rubric);
  request.set_reason(reason);
  v1::ProposeRubricResponse response;
  MPO_RETURN_IF_ERROR(
      Named(address, rpc::Call({}, [&](grpc::ClientContext& context) {
              return stub->ProposeRubric(&context, request, &response);
            })));
  return response.rubric_sha256();
}

absl::Status ActivateRubric(const std::string& address,
                            const std::string& sha256) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  v1::ActivateRubricRequest request;
  request.set_rubric_sha256(sha256);
  return Named(address, rpc::Call({}, [&](grpc::ClientContext& context) {
                 v1::ActivateRubricResponse response;
                 return stub->ActivateRubric(&context, request, &response);
               }));
}

absl::StatusOr<std::string> RollbackRubric(const std::string& address) {
  const auto stub = OrchestratorService::NewStub(rpc::MakeChannel(address));
  v1::RollbackRubricResponse response;
  MPO_RETURN_IF_ERROR(
      Named(address, rpc::Call({}, [&](grpc::ClientContext& context) {
              return stub->RollbackRubric(&context, v1::RollbackRubricRequest(),
                                          &response);
            })));
  return response.rubric_sha256();
}

}  // namespace mpo::cli
