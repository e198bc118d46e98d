// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/published_weights.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/digest.h"
#include "mpo/base/status_macros.h"

namespace mpo::weights {

absl::StatusOr<std::shared_ptr<const PublishedWeights>>
PublishedWeights::Create(PolicyVersion version, std::string kind,
                         std::string adapter_config,
                         const std::vector<tensor::NamedTensor>& tensors) {
  std::shared_ptr<PublishedWeights> published(new PublishedWeights());
  Manifest& manifest = published->manifest_;
  manifest.version = version;
  manifest.kind = std::move(kind);
  manifest.adapter_config = std::move(adapter_config);
  for (const tensor::NamedTensor& named : tensors) {
    MPO_ASSIGN_OR_RETURN(tensor::TensorBytes encoded,
                         tensor::Encode(named.tensor));
    TensorEntry entry;
    entry.name = named.name;
    entry.dtype = std::move(encoded.dtype);
    entry.shape = std::move(encoded.shape);
    entry.bytes = static_cast<int64_t>(encoded.bytes.size());
    entry.sha256 = Sha256Hex(encoded.bytes);
    manifest.total_bytes += entry.bytes;
    manifest.tensors.push_back(std::move(entry));
    published->bytes_.push_back(std::move(encoded.bytes));
  }
  MPO_RETURN_IF_ERROR(
      ValidateManifest(manifest, std::numeric_limits<int64_t>::max()));
  for (size_t i = 0; i < published->bytes_.size(); ++i) {
    const std::string_view bytes = published->bytes_[i];
    for (size_t offset = 0; offset < bytes.size(); offset += kChunkBytes) {
      const std::string_view data = bytes.substr(offset, kChunkBytes);
      published->chunks_.push_back({static_cast<int>(i),
                                    static_cast<int64_t>(offset), data,
                                    Crc32c(data)});
    }
  }
  published->sha256_ = WeightsDigest(manifest);
  return std::shared_ptr<const PublishedWeights>(std::move(published));
}

std::string WeightsDigest(const Manifest& manifest) {
  std::vector<std::string> lines;
  for (const TensorEntry& entry : manifest.tensors) {
    lines.push_back(absl::StrCat(entry.name, "\n", entry.dtype, "\n",
                                 absl::StrJoin(entry.shape, ","), "\n",
                                 entry.sha256, "\n"));
  }
  std::sort(lines.begin(), lines.end());
  Sha256 sha;
  for (const std::string& line : lines) sha.Update(line);
  return sha.HexDigest();
}

}  // namespace mpo::weights
