// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "mpo/v1/policy_learner_service.pb.h"
#include "mpo/weights/manifest.h"
#include "mpo/weights/memory_file.h"
#include "services/policy_learner/training_batch.h"

namespace mpo::policy_learner {

// Between the messages of policy_learner_service.proto and plain types.

// INVALID_ARGUMENT when an enum or the verdict is missing; names the key.
absl::StatusOr<TrainingSample> SampleFromProto(
    const v1::SubmitRolloutsRequest& request);

// The inverse.
v1::SubmitRolloutsRequest SampleToProto(const TrainingSample& sample);

// SampleFromProto from serialised bytes; DATA_LOSS when they do not parse.
absl::StatusOr<TrainingSample> SampleFromBytes(const std::string& bytes);

v1::WeightsManifest ManifestToProto(const weights::Manifest& manifest);
v1::WeightsManifest::MemoryFile OfferToProto(const weights::MemoryOffer& offer);
weights::HostGuard GuardOf(const v1::HostGuard& guard);
v1::GetWeightsResponse ChunkToProto(const weights::Chunk& chunk);

}  // namespace mpo::policy_learner
