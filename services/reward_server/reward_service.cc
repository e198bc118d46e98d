// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/reward_service.h"

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "mpo/base/mutex.h"
#include "mpo/rpc/grpc_status.h"
#include "services/reward_server/wire.h"

namespace mpo::reward_server {
namespace {

// What the engine's callbacks and the reactor share: the engine may still call
// when gRPC is already done with the reactor. A batch bounds what waits here.
class ScoreStream {
 public:
  using Reactor = grpc::ServerWriteReactor<v1::ScoreResponse>;

  explicit ScoreStream(Reactor* reactor) : reactor_(reactor) {}

  void Verdict(v1::ScoreResponse response) {
    MutexLock lock(mu_);
    waiting_.push_back(std::move(response));
    Advance();
  }
  void Done(const absl::Status& status) {
    MutexLock lock(mu_);
    if (status_.has_value()) return;
    status_ = rpc::ToGrpcStatus(status);
    Advance();
  }
  // A write that failed means that the caller is gone.
  void Written(bool ok) {
    MutexLock lock(mu_);
    writing_ = false;
    if (!ok) {
      waiting_.clear();
      if (!status_.has_value()) status_ = grpc::Status::CANCELLED;
    }
    Advance();
  }
  void Cancel() {
    stop_.request_stop();
    MutexLock lock(mu_);
    waiting_.clear();
    if (!status_.has_value()) status_ = grpc::Status::CANCELLED;
    Advance();
  }
  void Detach() {
    MutexLock lock(mu_);
    reactor_ = nullptr;
  }
  std::stop_token stop() const { return stop_.get_token(); }

 private:
  // StartWrite and Finish only queue, so they may be called under the lock.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reactor_ == nullptr || writing_ || finished_) return;
    if (!waiting_.empty()) {
      out_ = std::move(waiting_.front());
      waiting_.pop_front();
      writing_ = true;
      reactor_->StartWrite(&out_);
    } else if (status_.has_value()) {
      finished_ = true;
      reactor_->Finish(*status_);
    }
  }

  std::stop_source stop_;
  Mutex mu_;
  Reactor* reactor_ ABSL_GUARDED_BY(mu_);
  std::deque<v1::ScoreResponse> waiting_ ABSL_GUARDED_BY(mu_);
  std::optional<grpc::Status> status_ ABSL_GUARDED_BY(mu_);
  v1::ScoreResponse out_;  // Belongs to gRPC while `writing_`.
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class ScoreReactor final : public ScoreStream::Reactor {
 public:
  ScoreReactor(RewardEngine& engine, const v1::ScoreRequest& request)
      : stream_(std::make_shared<ScoreStream>(this)) {
    ScoreTask task;
    for (const v1::ScoreRequest::Item& item : request.items()) {
      task.keys.push_back(item.sample_key());
      task.items.push_back(FromProto(item));
    }
    task.rubric_sha256 = request.rubric_sha256();
    task.monitor_sha256 = request.monitor_rubric_sha256();
    task.stop = stream_->stop();
    task.on_verdict = [stream = stream_](const std::string& key,
                                         const mpo::Verdict& verdict,
                                         const auto& monitor) {
      v1::ScoreResponse response;
      response.set_sample_key(key);
      *response.mutable_verdict() = ToProto(verdict);
      if (monitor.has_value()) {
        *response.mutable_monitor() = ToProto(*monitor);
      }
      stream->Verdict(std::move(response));
    };
    task.on_done = [stream = stream_](const absl::Status& status) {
      stream->Done(status);
    };
    const absl::Status submitted = engine.Submit(std::move(task));
    if (!submitted.ok()) stream_->Done(submitted);
  }

  void OnWriteDone(bool ok) override { stream_->Written(ok); }
  void OnCancel() override { stream_->Cancel(); }
  void OnDone() override {
    stream_->Detach();
    delete this;
  }

 private:
  const std::shared_ptr<ScoreStream> stream_;
};

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context,
                                 const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(rpc::ToGrpcStatus(status));
  return reactor;
}

}  // namespace

grpc::ServerWriteReactor<v1::ScoreResponse>* RewardService::Score(
    grpc::CallbackServerContext*, const v1::ScoreRequest* request) {
  return new ScoreReactor(engine_, *request);
}

grpc::ServerUnaryReactor* RewardService::InstallRubric(
    grpc::CallbackServerContext* context,
    const v1::InstallRubricRequest* request,
    v1::InstallRubricResponse* response) {
  const absl::StatusOr<Rubric> rubric = FromProto(request->rubric());
  if (!rubric.ok()) return Finish(context, rubric.status());
  const absl::StatusOr<std::string> sha256 = engine_.Install(*rubric);
  if (sha256.ok()) response->set_rubric_sha256(*sha256);
  return Finish(context, sha256.status());
}

grpc::ServerUnaryReactor* RewardService::GetRubric(
    grpc::CallbackServerContext* context,
    const v1::GetInstalledRubricRequest* request,
    v1::GetInstalledRubricResponse* response) {
  const absl::StatusOr<Rubric> rubric = engine_.Find(request->rubric_sha256());
  if (rubric.ok()) *response->mutable_rubric() = ToProto(*rubric);
  return Finish(context, rubric.status());
}

grpc::ServerUnaryReactor* RewardService::GetJudges(
    grpc::CallbackServerContext* context, const v1::GetJudgesRequest*,
    v1::GetJudgesResponse* response) {
  const JudgeStatus status = status_();
  v1::GetJudgesResponse::Judge& judge = *response->add_judges();
  judge.set_name(status.name);
  judge.set_kind(status.kind);
  judge.set_circuit(judge::Name(status.model.circuit));
  judge.set_requests(status.model.requests);
  judge.set_failures(status.model.failures);
  return Finish(context, absl::OkStatus());
}

}  // namespace mpo::reward_server
