// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/rank_orders.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "mpo/base/status_macros.h"
#include "mpo/v1/learner_group_service.pb.h"
#include "services/policy_learner/wire.h"

namespace mpo::policy_learner {
namespace {

using collective::Rendezvous;
using Work = PolicyTrainer::Work;

// Leaves room for the fields around the samples.
constexpr int64_t kPartBytes = Rendezvous::kMaxValueBytes - 1024;
// Rank 0 may wait long for rollouts; that it lives is seen elsewhere.
constexpr absl::Duration kPoll = absl::Minutes(10);

std::string Key(int64_t number, const std::string& rest) {
  return absl::StrCat("order/", number, "/", rest);
}

v1::LearnerOrder::Kind KindOf(Work::Kind kind) {
  switch (kind) {
    case Work::Kind::kTrain:
      return v1::LearnerOrder::KIND_TRAIN;
    case Work::Kind::kSave:
      return v1::LearnerOrder::KIND_SAVE;
    case Work::Kind::kLoad:
      break;
  }
  return v1::LearnerOrder::KIND_LOAD;
}

// Trunks spare a rank some layers, where they fit into the store at all.
bool SendTrunks(const std::vector<TrainingSample>& samples) {
  size_t bytes = 0;
  for (const TrainingSample& sample : samples) {
    if (sample.trunk != nullptr) {
      bytes += sample.trunk->inputs.size() * sizeof(float);
    }
  }
  return bytes <= Rendezvous::kMaxStoreBytes / 2;
}

std::vector<std::string> PartsOf(const std::vector<TrainingSample>& samples) {
  const bool trunks = SendTrunks(samples);
  std::vector<std::string> parts;
  v1::LearnerOrderPart part;
  int64_t bytes = 0;
  for (const TrainingSample& sample : samples) {
    v1::SubmitRolloutsRequest request = SampleToProto(sample);
    if (!trunks) request.clear_trunk();
    const auto size = static_cast<int64_t>(request.ByteSizeLong()) + 16;
    if (bytes > 0 && bytes + size > kPartBytes) {
      parts.push_back(part.SerializeAsString());
      part.Clear();
      bytes = 0;
    }
    bytes += size;
    *part.add_samples() = std::move(request);
  }
  if (bytes > 0) parts.push_back(part.SerializeAsString());
  return parts;
}

absl::StatusOr<std::string> Read(collective::Membership& membership,
                                 const std::string& key,
                                 const std::stop_token& stop) {
  for (;;) {
    auto value = membership.Get(key, kPoll, stop);
    if (value.ok() || !membership.AwaitEnd(absl::ZeroDuration()).ok() ||
        !absl::IsDeadlineExceeded(value.status())) {
      return value;
    }
  }
}

absl::StatusOr<std::vector<TrainingSample>> ReadSamples(
    collective::Membership& membership, int64_t number, int parts,
    const std::stop_token& stop) {
  std::vector<TrainingSample> samples;
  for (int i = 0; i < parts; ++i) {
    MPO_ASSIGN_OR_RETURN(
        const std::string bytes,
        Read(membership, Key(number, absl::StrCat("part/", i)), stop));
    v1::LearnerOrderPart part;
    if (!part.ParseFromString(bytes)) {
      return absl::DataLossError(absl::StrCat("part ", i, " of order ", number,
                                              " of rank 0 does not parse"));
    }
    for (const v1::SubmitRolloutsRequest& request : part.samples()) {
      MPO_ASSIGN_OR_RETURN(TrainingSample sample, SampleFromProto(request));
      samples.push_back(std::move(sample));
    }
  }
  return samples;
}

std::string BarrierName(int64_t number) {
  return absl::StrCat("order ", number);
}

}  // namespace

absl::Status OrderGiver::Put(const std::string& part, std::string bytes) {
  return group_.In(BarrierName(number_),
                   book_.Put(Key(number_, part), std::move(bytes)));
}

absl::Status OrderGiver::Give(const Work& work) {
  ++number_;
  v1::LearnerOrder order;
  order.set_kind(KindOf(work.kind));
  order.set_step(work.step);
  if (work.samples != nullptr) {
    for (std::string& part : PartsOf(*work.samples)) {
      MPO_RETURN_IF_ERROR(
          Put(absl::StrCat("part/", order.parts()), std::move(part)));
      order.set_parts(order.parts() + 1);
    }
  }
  MPO_RETURN_IF_ERROR(Put("head", order.SerializeAsString()));
  MPO_RETURN_IF_ERROR(group_.Barrier(BarrierName(number_)));
  book_.Drop(Key(number_, ""));
  return absl::OkStatus();
}

absl::Status OrderGiver::End() {
  v1::LearnerOrder order;
  order.set_kind(v1::LearnerOrder::KIND_END);
  ++number_;
  return Put("head", order.SerializeAsString());
}

absl::Status FollowOrders(collective::ProcessGroup& group,
                          PolicyTrainer& trainer, std::stop_token stop) {
  collective::Membership& membership = group.membership();
  for (int64_t number = 1;; ++number) {
    MPO_ASSIGN_OR_RETURN(const std::string bytes,
                         Read(membership, Key(number, "head"), stop));
    v1::LearnerOrder order;
    if (!order.ParseFromString(bytes)) {
      return absl::DataLossError(
          absl::StrCat("order ", number, " of rank 0 does not parse"));
    }
    MPO_ASSIGN_OR_RETURN(const auto samples,
                         ReadSamples(membership, number, order.parts(), stop));
    Work work = {.step = order.step(), .samples = &samples};
    switch (order.kind()) {
      case v1::LearnerOrder::KIND_TRAIN:
        work.kind = Work::Kind::kTrain;
        break;
      case v1::LearnerOrder::KIND_SAVE:
        work.kind = Work::Kind::kSave;
        break;
      case v1::LearnerOrder::KIND_LOAD:
        work.kind = Work::Kind::kLoad;
        break;
      case v1::LearnerOrder::KIND_END:
        return absl::OkStatus();
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("order ", number, " of rank 0: unknown kind ",
                         static_cast<int>(order.kind())));
    }
    MPO_RETURN_IF_ERROR(group.Barrier(BarrierName(number)));
    MPO_RETURN_IF_ERROR(trainer.Follow(work));
  }
}

}  // namespace mpo::policy_learner
