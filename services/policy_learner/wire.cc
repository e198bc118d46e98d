// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/wire.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/wire/nouns.h"

namespace mpo::policy_learner {
namespace {

// What is wrong, with the key of the rollout it is wrong in.
absl::Status In(const std::string& key, const absl::Status& status) {
  return absl::InvalidArgumentError(
      absl::StrCat("rollout '", key, "', ", std::string(status.message())));
}

}  // namespace

absl::StatusOr<TrainingSample> SampleFromProto(
    const v1::SubmitRolloutsRequest& request) {
  const std::string& key = request.rollout().sample_key();
  absl::StatusOr<Rollout> rollout = wire::FromProto(request.rollout());
  if (!rollout.ok()) return In(key, rollout.status());
  absl::StatusOr<Verdict> verdict = wire::FromProto(request.verdict());
  if (!verdict.ok()) return In(key, verdict.status());
  TrainingSample sample{*std::move(rollout), *std::move(verdict)};
  if (!request.has_trunk()) return sample;
  const absl::StatusOr<Trunk> trunk = wire::FromProto(request.trunk());
  if (!trunk.ok()) return In(key, trunk.status());
  sample.trunk = std::make_shared<const Trunk>(*trunk);
  return sample;
}

v1::SubmitRolloutsRequest SampleToProto(const TrainingSample& sample) {
  v1::SubmitRolloutsRequest request;
  *request.mutable_rollout() = wire::ToProto(sample.rollout);
  *request.mutable_verdict() = wire::ToProto(sample.verdict);
  if (sample.trunk != nullptr) {
    *request.mutable_trunk() = wire::ToProto(*sample.trunk);
  }
  return request;
}

absl::StatusOr<TrainingSample> SampleFromBytes(const std::string& bytes) {
  v1::SubmitRolloutsRequest request;
  if (!request.ParseFromString(bytes)) {
    return absl::DataLossError("a spooled rollout does not parse");
  }
  return SampleFromProto(request);
}

v1::WeightsManifest ManifestToProto(const weights::Manifest& manifest) {
  v1::WeightsManifest to;
  to.set_version(manifest.version);
  to.set_kind(manifest.kind);
  to.set_adapter_config(manifest.adapter_config);
  to.set_total_bytes(manifest.total_bytes);
  for (const weights::TensorEntry& entry : manifest.tensors) {
    v1::WeightsManifest::Tensor& tensor = *to.add_tensors();
    tensor.set_name(entry.name);
    tensor.set_dtype(entry.dtype);
    for (int64_t size : entry.shape) tensor.add_shape(size);
    tensor.set_bytes(entry.bytes);
    tensor.set_sha256(entry.sha256);
  }
  return to;
}

v1::WeightsManifest::MemoryFile OfferToProto(
    const weights::MemoryOffer& offer) {
  v1::WeightsManifest::MemoryFile to;
  to.set_path(offer.path);
  to.set_bytes(offer.bytes);
  to.set_inode(offer.inode);
  to.set_edition(offer.edition);
  to.mutable_guard()->set_boot_id(offer.guard.boot_id);
  to.mutable_guard()->set_pid_namespace(offer.guard.pid_namespace);
  return to;
}

weights::HostGuard GuardOf(const v1::HostGuard& guard) {
  return {guard.boot_id(), guard.pid_namespace()};
}

v1::GetWeightsResponse ChunkToProto(const weights::Chunk& chunk) {
  v1::GetWeightsResponse response;
  v1::GetWeightsResponse::Chunk& to = *response.mutable_chunk();
  to.set_tensor(chunk.tensor);
  to.set_offset(chunk.offset);
  to.set_data(chunk.data.data(), chunk.data.size());
  to.set_crc32c(chunk.crc32c);
  return response;
}

}  // namespace mpo::policy_learner
