// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/rollout_actor_service.h"

#include <deque>
#include <utility>

#include "mpo/base/mutex.h"
#include "mpo/rpc/grpc_status.h"
#include "services/rollout_actor/wire.h"

namespace mpo::rollout_actor {
namespace {

GenerateJob JobOf(const v1::GenerateRequest& request) {
  GenerateJob job;
  for (const v1::Prompt& prompt : request.prompts()) {
    job.prompts.push_back(FromProto(prompt));
  }
  if (request.has_sampling()) job.sampling = FromProto(request.sampling());
  job.seed = request.seed();
  job.base_model = request.base_model();
  return job;
}

v1::GenerateResponse ResponseOf(const GeneratedResponse& response) {
  v1::GenerateResponse proto;
  proto.set_prompt_id(response.prompt_id);
  proto.mutable_tokens()->Assign(response.tokens.begin(),
                                 response.tokens.end());
  proto.mutable_logprobs()->Assign(response.logprobs.begin(),
                                   response.logprobs.end());
  proto.set_text(response.text);
  proto.set_finish_reason(ToProto(response.finish_reason));
  proto.set_policy_version(response.policy_version);
  return proto;
}

// One Generate call. The engine's thread pushes, gRPC's threads write; at most
// one write is under way. Lives until OnDone, which follows Finish, which
// follows the engine's last word.
class GenerateCall final
    : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  GenerateCall(RolloutActorEngine& engine, const v1::GenerateRequest& request) {
    const absl::Status queued = engine.Generate(
        JobOf(request), stop_.get_token(),
        [this](const GeneratedResponse& response) { Push(response); },
        [this](const absl::Status& status) { End(status); });
    if (!queued.ok()) End(queued);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) stop_.request_stop();
    {
      MutexLock lock(mu_);
      queue_.pop_front();
      if (!ok) queue_.clear();
      if (!queue_.empty()) return StartWrite(&queue_.front());
      if (!ended_) return;
    }
    Finish(end_);
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

 private:
  void Push(const GeneratedResponse& response) {
    v1::GenerateResponse proto = ResponseOf(response);
    MutexLock lock(mu_);
    queue_.push_back(std::move(proto));
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }

  // Called once. Finish may delete this object on another thread: it comes
  // last and not under the lock.
  void End(const absl::Status& status) {
    {
      MutexLock lock(mu_);
      end_ = rpc::ToGrpcStatus(status);
      ended_ = true;
      if (!queue_.empty()) return;
    }
    Finish(end_);
  }

  std::stop_source stop_;
  Mutex mu_;
  std::deque<v1::GenerateResponse> queue_ ABSL_GUARDED_BY(mu_);
  grpc::Status end_;  // Written once, before `ended_`.
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* RolloutActorService::Generate(
    grpc::CallbackServerContext* /*context*/,
    const v1::GenerateRequest* request) {
  return new GenerateCall(engine_, *request);
}

grpc::ServerUnaryReactor* RolloutActorService::GetStatus(
    grpc::CallbackServerContext* context,
    const v1::GetActorStatusRequest* /*request*/,
    v1::GetActorStatusResponse* response) {
  const ActorStatus status = engine_.Status();
  response->set_policy_version(status.policy_version);
  response->set_unit(status.unit);
  response->set_generated_tokens(status.generated_tokens);
  response->set_draining(status.draining);
  auto* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* RolloutActorService::Drain(
    grpc::CallbackServerContext* context, const v1::DrainRequest* /*request*/,
    v1::DrainResponse* /*response*/) {
  engine_.Drain();
  auto* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace mpo::rollout_actor
