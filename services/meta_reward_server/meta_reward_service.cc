// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_reward_service.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/mutex.h"
#include "mpo/base/status_macros.h"
#include "mpo/rpc/grpc_status.h"
#include "services/meta_reward_server/meta_reward_wire.h"

namespace mpo::meta_reward_server {
namespace {

absl::Status CheckSize(int size, const char* field) {
  if (size <= MetaRewardService::kMaxEvidence) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected at most ",
                   MetaRewardService::kMaxEvidence, " items, got ", size));
}

// What the engine's callbacks and the reactor share: the engine may still call
// when gRPC is already done with the reactor.
class RefineStream {
 public:
  using Reactor = grpc::ServerWriteReactor<v1::RefineResponse>;

  explicit RefineStream(Reactor* reactor) : reactor_(reactor) {}

  // Only the newest progress waits for its turn.
  void Progress(const RefinementProgress& progress) {
    MutexLock lock(mu_);
    progress_ = ProgressToProto(progress);
    Advance();
  }

  void Done(const absl::StatusOr<RefinementProposal>& result) {
    MutexLock lock(mu_);
    if (status_.has_value()) return;  // Cancelled before.
    if (result.ok()) proposal_ = ProposalToProto(*result);
    status_ = rpc::ToGrpcStatus(result.status());
    Advance();
  }

  // The last write left or failed: the caller is gone then.
  void Written(bool ok) {
    MutexLock lock(mu_);
    writing_ = false;
    if (!ok) {
      progress_.reset();
      proposal_.reset();
      if (!status_.has_value()) status_ = grpc::Status::CANCELLED;
    }
    Advance();
  }

  void Detach() {
    MutexLock lock(mu_);
    reactor_ = nullptr;
  }

 private:
  // StartWrite and Finish only queue, so they may be called under the lock.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reactor_ == nullptr || writing_ || finished_) return;
    if (status_.has_value() && !proposal_.has_value()) {
      finished_ = true;
      reactor_->Finish(*status_);
      return;
    }
    std::optional<v1::RefineResponse>& next =
        status_.has_value() ? proposal_ : progress_;
    if (!next.has_value()) return;
    out_ = *std::move(next);
    next.reset();
    writing_ = true;
    reactor_->StartWrite(&out_);
  }

  Mutex mu_;
  Reactor* reactor_ ABSL_GUARDED_BY(mu_);
  std::optional<v1::RefineResponse> progress_ ABSL_GUARDED_BY(mu_);
  std::optional<v1::RefineResponse> proposal_ ABSL_GUARDED_BY(mu_);
  std::optional<grpc::Status> status_ ABSL_GUARDED_BY(mu_);
  v1::RefineResponse out_;  // Belongs to gRPC while `writing_`.
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class RefineReactor final : public RefineStream::Reactor {
 public:
  RefineReactor(RefinementEngine& engine, const v1::RefineRequest& message)
      : engine_(engine), stream_(std::make_shared<RefineStream>(this)) {
    absl::StatusOr<int64_t> ticket = Begin(message);
    if (!ticket.ok()) {
      stream_->Done(ticket.status());
      return;
    }
    ticket_ = *ticket;
  }

  void OnWriteDone(bool ok) override { stream_->Written(ok); }

  void OnCancel() override {
    engine_.Leave(ticket_);
    stream_->Done(absl::CancelledError("the caller cancelled"));
  }

  void OnDone() override {
    stream_->Detach();
    delete this;
  }

 private:
  absl::StatusOr<int64_t> Begin(const v1::RefineRequest& message) {
    MPO_RETURN_IF_ERROR(CheckSize(message.baseline_size(), "baseline"));
    MPO_RETURN_IF_ERROR(CheckSize(message.recent_size(), "recent"));
    MPO_ASSIGN_OR_RETURN(RefinementRequest request, RequestFromProto(message));
    return engine_.Start(
        std::move(request),
        {[stream = stream_](const RefinementProgress& progress) {
           stream->Progress(progress);
         },
         [stream = stream_](const absl::StatusOr<RefinementProposal>& result) {
           stream->Done(result);
         }});
  }

  RefinementEngine& engine_;
  const std::shared_ptr<RefineStream> stream_;
  int64_t ticket_ = 0;  // Set before gRPC knows the reactor.
};

}  // namespace

MetaRewardService::MetaRewardService(RefinementEngine& engine,
                                     PromptLimits limits)
    : engine_(engine), limits_(std::move(limits)) {}

grpc::ServerWriteReactor<v1::RefineResponse>* MetaRewardService::Refine(
    grpc::CallbackServerContext* /*context*/,
    const v1::RefineRequest* request) {
  return new RefineReactor(engine_, *request);
}

grpc::ServerUnaryReactor* MetaRewardService::AssessRubric(
    grpc::CallbackServerContext* context,
    const v1::AssessRubricRequest* request,
    v1::AssessRubricResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto assess = [&]() -> absl::Status {
    MPO_RETURN_IF_ERROR(CheckSize(request->evidence_size(), "evidence"));
    MPO_ASSIGN_OR_RETURN(const Rubric active, FromProto(request->active()));
    MPO_ASSIGN_OR_RETURN(const Rubric candidate,
                         FromProto(request->candidate()));
    MPO_ASSIGN_OR_RETURN(const std::vector<EvidenceItem> evidence,
                         EvidenceFromProto(request->evidence()));
    MPO_ASSIGN_OR_RETURN(const Assessment assessment,
                         Assess(active, candidate, evidence, limits_));
    *response = AssessmentToProto(assessment);
    return absl::OkStatus();
  };
  reactor->Finish(rpc::ToGrpcStatus(assess()));
  return reactor;
}

}  // namespace mpo::meta_reward_server
