// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/tensor/codec.h"
#include "mpo/weights/manifest.h"

namespace mpo::weights {

// One version of the weights, ready to be sent: a copy of the bytes with their
// digests. Immutable, so any number of streams may read it; thread-safe.
class PublishedWeights {
 public:
  // INVALID_ARGUMENT for a dtype without a name or a manifest that would not
  // pass ValidateManifest.
  static absl::StatusOr<std::shared_ptr<const PublishedWeights>> Create(
      PolicyVersion version, std::string kind, std::string adapter_config,
      const std::vector<tensor::NamedTensor>& tensors);

  const Manifest& manifest() const { return manifest_; }
  PolicyVersion version() const { return manifest_.version; }
  // SHA-256 of all weights (WeightsDigest).
  const std::string& sha256() const { return sha256_; }
  int chunk_count() const { return static_cast<int>(chunks_.size()); }
  // 0 <= index < chunk_count(). The bytes live as long as this object.
  const Chunk& chunk(int index) const { return chunks_[index]; }

 private:
  PublishedWeights() = default;

  Manifest manifest_;
  std::string sha256_;
  std::vector<std::string> bytes_;  // One string a tensor.
  std::vector<Chunk> chunks_;
};

// SHA-256 over the manifest's tensors in order of their names (name, dtype,
// shape, digest): equal if and only if the weights are equal bit for bit,
// whatever the version and the order of the tensors.
std::string WeightsDigest(const Manifest& manifest);

}  // namespace mpo::weights
