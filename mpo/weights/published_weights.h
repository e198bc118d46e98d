// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/tensor/codec.h"
#include "mpo/weights/manifest.h"
#include "mpo/weights/memory_file.h"

namespace mpo::weights {

struct PublishOptions {
  // Where memory comes from that actors of this host can map; null = nowhere.
  std::shared_ptr<MemoryFiles> files = nullptr;
  int threads = 0;  // That copy and digest; 0 = tensor::Threads().
};

// One version of the weights, ready to be sent: a copy of the bytes with their
// digests. Immutable, so any number of streams may read it; thread-safe.
class PublishedWeights {
 public:
  // INVALID_ARGUMENT for a dtype without a name or a manifest that would not
  // pass ValidateManifest; RESOURCE_EXHAUSTED when memory is short. Where no
  // memory file can be had the bytes lie in memory of this process; see
  // sharing().
  static absl::StatusOr<std::shared_ptr<const PublishedWeights>> Create(
      PolicyVersion version, std::string kind, std::string adapter_config,
      const std::vector<tensor::NamedTensor>& tensors,
      const PublishOptions& options = {});

  const Manifest& manifest() const { return manifest_; }
  PolicyVersion version() const { return manifest_.version; }
  // SHA-256 of all weights (WeightsDigest).
  const std::string& sha256() const { return sha256_; }
  // Where others on this host find the bytes, laid out as LayoutOf(manifest());
  // good as long as this object. Nothing where they are not shared.
  const std::optional<MemoryOffer>& offer() const { return offer_; }
  // Why the bytes are not shared although that was asked for; OK otherwise.
  const absl::Status& sharing() const { return sharing_; }
  // Views of the bytes, which keep `published` alive; not to be written to.
  static absl::StatusOr<std::vector<tensor::NamedTensor>> Tensors(
      std::shared_ptr<const PublishedWeights> published);
  int chunk_count() const { return static_cast<int>(chunks_.size()); }
  // 0 <= index < chunk_count(). The bytes live as long as this object; their
  // checksum is computed here.
  Chunk chunk(int index) const;

 private:
  PublishedWeights() = default;
  const char* data() const {
    return file_ != nullptr ? file_->bytes().data() : heap_.get();
  }
  absl::Status Fill(const std::vector<tensor::NamedTensor>& tensors,
                    const PublishOptions& options);
  void CutIntoChunks();

  Manifest manifest_;
  std::string sha256_;
  std::optional<MemoryOffer> offer_;
  absl::Status sharing_;
  // One of the two holds the bytes.
  std::shared_ptr<MemoryFile> file_;
  std::unique_ptr<char[]> heap_;
  std::vector<Chunk> chunks_;  // Without checksums.
};

// SHA-256 over the manifest's tensors in order of their names (name, dtype,
// shape, digest): equal if and only if the weights are equal bit for bit,
// whatever the version and the order of the tensors.
std::string WeightsDigest(const Manifest& manifest);

}  // namespace mpo::weights
