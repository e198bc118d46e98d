// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/learner_service.h"

#include <atomic>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "mpo/rpc/grpc_status.h"
#include "services/policy_learner/wire.h"

namespace mpo::policy_learner {
namespace {

using rpc::ToGrpcStatus;

// Reads a stream of rollouts, checks each as it comes, and has all of them
// written at the end. Deletes itself when done.
class SubmitReactor final
    : public grpc::ServerReadReactor<v1::SubmitRolloutsRequest> {
 public:
  SubmitReactor(LearnerEngine& engine, RolloutSpool& spool,
                LearnerMetrics& metrics,
                BoundedQueue<std::function<void()>>& writes,
                v1::SubmitRolloutsResponse* response)
      : limits_(engine.Limits()),
        spool_(spool),
        metrics_(metrics),
        writes_(writes),
        response_(response) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      if (cancelled_) return Finish(grpc::Status::CANCELLED);
      if (!writes_.TryPush([this] { Write(); })) {
        Finish({grpc::StatusCode::RESOURCE_EXHAUSTED,
                "too many streams wait for the disk"});
      }
      return;
    }
    if (absl::Status status = Take(); !status.ok()) {
      if (absl::IsInvalidArgument(status)) metrics_.samples_invalid.Increment();
      return Finish(ToGrpcStatus(status));
    }
    StartRead(&request_);
  }
  void OnCancel() override { cancelled_ = true; }
  void OnDone() override { delete this; }

 private:
  absl::Status Take() {
    const absl::StatusOr<TrainingSample> sample = SampleFromProto(request_);
    if (!sample.ok()) return sample.status();
    if (absl::Status valid = ValidateSample(*sample, limits_); !valid.ok()) {
      return valid;
    }
    SpoolRecord record{sample->rollout.sample_key, sample->rollout.step,
                       request_.SerializeAsString()};
    bytes_ += record.bytes.size();
    records_.push_back(std::move(record));
    if (records_.size() > LearnerService::kMaxRollouts ||
        bytes_ > LearnerService::kMaxStreamBytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "a stream may hold ", LearnerService::kMaxRollouts, " rollouts of ",
          LearnerService::kMaxStreamBytes, " bytes; send several"));
    }
    return absl::OkStatus();
  }

  void Write() {
    const absl::StatusOr<AppendResult> result = spool_.Append(records_);
    if (result.ok()) {
      response_->set_accepted(result->accepted);
      response_->set_duplicates(result->duplicates);
      metrics_.samples_accepted.Increment(result->accepted);
      metrics_.samples_duplicate.Increment(result->duplicates);
      metrics_.spooled.Set(static_cast<double>(spool_.size()));
    }
    Finish(ToGrpcStatus(result.status()));
  }

  const SampleLimits limits_;
  RolloutSpool& spool_;
  LearnerMetrics& metrics_;
  BoundedQueue<std::function<void()>>& writes_;
  v1::SubmitRolloutsResponse* const response_;
  v1::SubmitRolloutsRequest request_;
  std::vector<SpoolRecord> records_;
  size_t bytes_ = 0;
  std::atomic<bool> cancelled_ = false;
};

// Sends manifest, chunks, commit, one message in flight; no chunks to a reader
// that can map the version's memory file. Deletes itself when done.
class WeightsReactor final
    : public grpc::ServerWriteReactor<v1::GetWeightsResponse> {
 public:
  // The library calls no method of a reactor before the handler has returned
  // it, so `ticket_` is set when OnCancel reads it.
  WeightsReactor(WeightsPublisher& publisher,
                 const v1::GetWeightsRequest& request)
      : publisher_(publisher),
        reader_(request.has_reader() ? std::optional(GuardOf(request.reader()))
                                     : std::nullopt),
        ticket_(publisher.Request(
            request.min_version(),
            [this](absl::StatusOr<WeightsPublisher::Published> p) {
              Begin(std::move(p));
            })) {}

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    Next();
  }
  void OnCancel() override { publisher_.Cancel(ticket_); }
  void OnDone() override { delete this; }

 private:
  void Begin(absl::StatusOr<WeightsPublisher::Published> published) {
    if (!published.ok()) return Finish(ToGrpcStatus(published.status()));
    weights_ = *std::move(published);
    *message_.mutable_manifest() = ManifestToProto(weights_->manifest());
    const std::optional<weights::MemoryOffer>& offer = weights_->offer();
    if (offer.has_value() && reader_ == offer->guard) {
      *message_.mutable_manifest()->mutable_memory_file() =
          OfferToProto(*offer);
    } else {
      chunks_ = weights_->chunk_count();
    }
    StartWrite(&message_);
  }

  void Next() {
    if (next_ < chunks_) {
      message_ = ChunkToProto(weights_->chunk(next_++));
      return StartWrite(&message_);
    }
    if (next_ > chunks_) return Finish(grpc::Status::OK);
    ++next_;
    message_.mutable_commit()->set_version(weights_->version());
    message_.mutable_commit()->set_chunks(chunks_);
    StartWrite(&message_);
  }

  WeightsPublisher& publisher_;
  const std::optional<weights::HostGuard> reader_;
  WeightsPublisher::Published weights_;
  v1::GetWeightsResponse message_;
  int chunks_ = 0;  // That are sent.
  int next_ = 0;
  const int64_t ticket_;  // Last: Begin may run while it is made.
};

}  // namespace

LearnerService::LearnerService(LearnerEngine& engine, RolloutSpool& spool,
                               WeightsPublisher& publisher,
                               LearnerMetrics& metrics)
    : engine_(engine),
      spool_(spool),
      publisher_(publisher),
      metrics_(metrics),
      writer_([this] {
        while (auto write = writes_.Pop()) (*write)();
      }) {}

LearnerService::~LearnerService() { writes_.Close(); }

grpc::ServerReadReactor<v1::SubmitRolloutsRequest>*
LearnerService::SubmitRollouts(grpc::CallbackServerContext*,
                               v1::SubmitRolloutsResponse* response) {
  return new SubmitReactor(engine_, spool_, metrics_, writes_, response);
}

grpc::ServerWriteReactor<v1::GetWeightsResponse>* LearnerService::GetWeights(
    grpc::CallbackServerContext*, const v1::GetWeightsRequest* request) {
  return new WeightsReactor(publisher_, *request);
}

grpc::ServerUnaryReactor* LearnerService::SaveCheckpoint(
    grpc::CallbackServerContext* context, const v1::SaveCheckpointRequest*,
    v1::SaveCheckpointResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.SaveCheckpoint([=](absl::StatusOr<CheckpointStore::Checkpoint> c) {
    if (c.ok()) {
      response->set_step(c->step);
      response->set_path(c->path.string());
    }
    reactor->Finish(ToGrpcStatus(c.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* LearnerService::GetStatus(
    grpc::CallbackServerContext* context, const v1::GetLearnerStatusRequest*,
    v1::GetLearnerStatusResponse* response) {
  const LearnerStatus status = engine_.Status();
  response->set_step(status.step);
  response->set_policy_version(status.policy_version);
  response->set_phase(status.phase);
  response->set_spooled_rollouts(status.spooled_rollouts);
  response->set_weights_sha256(status.weights_sha256);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace mpo::policy_learner
