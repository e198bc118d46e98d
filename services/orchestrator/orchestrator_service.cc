// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/orchestrator_service.h"

#include <memory>

#include "mpo/base/status_macros.h"
#include "mpo/rpc/grpc_status.h"
#include "services/orchestrator/service_reactors.h"
#include "services/orchestrator/wire.h"

namespace mpo::orchestrator {
namespace {

constexpr size_t kQueuedCalls = 1024;

grpc::Status TooBusy() {
  return {grpc::StatusCode::RESOURCE_EXHAUSTED,
          "the orchestrator has too many calls queued"};
}

absl::Duration DurationOf(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) +
         absl::Nanoseconds(duration.nanos());
}

}  // namespace

OrchestratorService::OrchestratorService(OrchestratorEngine& engine)
    : engine_(engine), calls_(kQueuedCalls), worker_([this] {
        while (const auto call = calls_.Pop()) (*call)();
      }) {}

OrchestratorService::~OrchestratorService() { calls_.Close(); }

grpc::ServerUnaryReactor* OrchestratorService::Queue(
    grpc::CallbackServerContext* context, std::function<absl::Status()> call) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  if (!calls_.TryPush([reactor, call = std::move(call)] {
        reactor->Finish(rpc::ToGrpcStatus(call()));
      })) {
    reactor->Finish(TooBusy());
  }
  return reactor;
}

grpc::ServerUnaryReactor* OrchestratorService::Register(
    grpc::CallbackServerContext* context, const v1::RegisterRequest* request,
    v1::RegisterResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const MemberRecord member, MemberOf(*request));
    MPO_ASSIGN_OR_RETURN(const Registration joined,
                         engine_.Register(member, request->config_sha256()));
    response->set_member_id(joined.member_id);
    *response->mutable_ttl() = ToProto(joined.ttl);
    response->set_run_id(joined.run_id);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::Heartbeat(
    grpc::CallbackServerContext* context, const v1::HeartbeatRequest* request,
    v1::HeartbeatResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(
        const std::vector<std::string> lost,
        engine_.Heartbeat(request->member_id(), {request->unit_ids().begin(),
                                                 request->unit_ids().end()}));
    response->mutable_lost_unit_ids()->Assign(lost.begin(), lost.end());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::LeaseWork(
    grpc::CallbackServerContext* /*context*/,
    const v1::LeaseWorkRequest* request, v1::LeaseWorkResponse* response) {
  const auto ticket = std::make_shared<EngineTicket>(
      [this](uint64_t id) { engine_.CancelWait(id); });
  auto* const reactor = new WaitReactor(ticket);
  const auto answer = [reactor, response](absl::StatusOr<LeaseReply> reply) {
    if (reply.ok()) *response = LeaseResponseOf(*reply);
    reactor->Finish(rpc::ToGrpcStatus(reply.status()));
  };
  if (!calls_.TryPush([this, request, ticket, answer] {
        ticket->Set(engine_.LeaseWork(request->member_id(),
                                      DurationOf(request->wait()), answer));
      })) {
    reactor->Finish(TooBusy());
  }
  return reactor;
}

grpc::ServerUnaryReactor* OrchestratorService::AssignBatch(
    grpc::CallbackServerContext* /*context*/,
    const v1::AssignBatchRequest* request, v1::AssignBatchResponse* response) {
  const auto ticket = std::make_shared<EngineTicket>(
      [this](uint64_t id) { engine_.CancelWait(id); });
  auto* const reactor = new WaitReactor(ticket);
  const auto answer = [reactor, response](absl::StatusOr<BatchReply> reply) {
    if (reply.ok()) *response = BatchResponseOf(*reply);
    reactor->Finish(rpc::ToGrpcStatus(reply.status()));
  };
  if (!calls_.TryPush([this, request, ticket, answer] {
        ticket->Set(engine_.AssignBatch(request->step(),
                                        DurationOf(request->wait()), answer));
      })) {
    reactor->Finish(TooBusy());
  }
  return reactor;
}

grpc::ServerUnaryReactor* OrchestratorService::CompleteWork(
    grpc::CallbackServerContext* context,
    const v1::CompleteWorkRequest* request,
    v1::CompleteWorkResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const Completion completion, CompletionOf(*request));
    MPO_ASSIGN_OR_RETURN(const Ledger::Recorded recorded,
                         engine_.CompleteWork(completion));
    response->set_recorded(static_cast<int32_t>(recorded.recorded));
    response->set_duplicates(static_cast<int32_t>(recorded.duplicates));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::CommitStep(
    grpc::CallbackServerContext* context, const v1::CommitStepRequest* request,
    v1::CommitStepResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const bool duplicate,
                         engine_.CommitStep(CommitOf(*request)));
    response->set_duplicate(duplicate);
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::WatchRunResponse>* OrchestratorService::WatchRun(
    grpc::CallbackServerContext* /*context*/,
    const v1::WatchRunRequest* /*request*/) {
  const auto ticket = std::make_shared<EngineTicket>(
      [this](uint64_t id) { engine_.Unsubscribe(id); });
  auto* const reactor = new WatchReactor(ticket);
  const std::shared_ptr<WatchReactor::Feed> feed = reactor->feed();
  if (!calls_.TryPush([this, ticket, feed] {
        ticket->Set(
            engine_.Subscribe([feed](const std::optional<RunStatus>& status) {
              feed->Tell(status);
            }));
      })) {
    feed->Tell(std::nullopt);
  }
  return reactor;
}

grpc::ServerUnaryReactor* OrchestratorService::PauseRun(
    grpc::CallbackServerContext* context, const v1::PauseRunRequest* request,
    v1::PauseRunResponse* /*response*/) {
  return Queue(context,
               [this, request] { return engine_.PauseRun(request->reason()); });
}

grpc::ServerUnaryReactor* OrchestratorService::ResumeRun(
    grpc::CallbackServerContext* context,
    const v1::ResumeRunRequest* /*request*/,
    v1::ResumeRunResponse* /*response*/) {
  return Queue(context, [this] { return engine_.ResumeRun(); });
}

grpc::ServerUnaryReactor* OrchestratorService::StopRun(
    grpc::CallbackServerContext* context, const v1::StopRunRequest* /*request*/,
    v1::StopRunResponse* /*response*/) {
  return Queue(context, [this] { return engine_.StopRun(); });
}

grpc::ServerUnaryReactor* OrchestratorService::ListSteps(
    grpc::CallbackServerContext* context, const v1::ListStepsRequest* request,
    v1::ListStepsResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const std::vector<StepRecord> steps,
                         engine_.ListSteps(request->after()));
    for (const StepRecord& step : steps) *response->add_steps() = StepOf(step);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::ListSamples(
    grpc::CallbackServerContext* context, const v1::ListSamplesRequest* request,
    v1::ListSamplesResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const WorkKind kind, FromProto(request->kind()));
    MPO_ASSIGN_OR_RETURN(const std::vector<SampleRecord> samples,
                         engine_.ListSamples(kind, request->step()));
    for (const SampleRecord& sample : samples) {
      *response->add_samples() = SampleEntryOf(sample);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::ListRubrics(
    grpc::CallbackServerContext* context,
    const v1::ListRubricsRequest* /*request*/,
    v1::ListRubricsResponse* response) {
  return Queue(context, [this, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const std::vector<RubricRecord> rubrics,
                         engine_.ListRubrics());
    for (const RubricRecord& rubric : rubrics) {
      *response->add_versions() = RubricVersionOf(rubric);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::GetRubric(
    grpc::CallbackServerContext* context, const v1::GetRubricRequest* request,
    v1::GetRubricResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    const bool by_version =
        request->which_case() == v1::GetRubricRequest::kVersion;
    MPO_ASSIGN_OR_RETURN(const StoredRubric stored,
                         by_version
                             ? engine_.GetRubric(request->version())
                             : engine_.GetRubric(request->rubric_sha256()));
    *response->mutable_rubric() = ToProto(stored.rubric);
    response->set_version(stored.version.value_or(-1));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::ProposeRubric(
    grpc::CallbackServerContext* context,
    const v1::ProposeRubricRequest* request,
    v1::ProposeRubricResponse* response) {
  return Queue(context, [this, request, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(const Rubric rubric, FromProto(request->rubric()));
    MPO_ASSIGN_OR_RETURN(*response->mutable_rubric_sha256(),
                         engine_.ProposeRubric(rubric, request->reason()));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OrchestratorService::ActivateRubric(
    grpc::CallbackServerContext* context,
    const v1::ActivateRubricRequest* request,
    v1::ActivateRubricResponse* /*response*/) {
  return Queue(context, [this, request] {
    return engine_.ActivateRubric(request->rubric_sha256());
  });
}

grpc::ServerUnaryReactor* OrchestratorService::RollbackRubric(
    grpc::CallbackServerContext* context,
    const v1::RollbackRubricRequest* /*request*/,
    v1::RollbackRubricResponse* response) {
  return Queue(context, [this, response]() -> absl::Status {
    MPO_ASSIGN_OR_RETURN(*response->mutable_rubric_sha256(),
                         engine_.RollbackRubric());
    return absl::OkStatus();
  });
}

}  // namespace mpo::orchestrator
