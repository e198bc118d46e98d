// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/published_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/digest.h"
#include "mpo/base/parallel.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/dtype.h"
#include "mpo/tensor/threads.h"
#include "mpo/weights/staging.h"

namespace mpo::weights {

namespace {

// A piece is hashed and copied while it is in the cache.
constexpr size_t kPieceBytes = size_t{1} << 18;

absl::StatusOr<TensorEntry> Describe(const tensor::NamedTensor& named) {
  TensorEntry entry;
  entry.name = named.name;
  entry.dtype = tensor::DtypeName(named.tensor.scalar_type());
  if (entry.dtype.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor '", named.name, "': dtype ",
        c10::toString(named.tensor.scalar_type()), " cannot be encoded"));
  }
  entry.shape = named.tensor.sizes().vec();
  entry.bytes = static_cast<int64_t>(named.tensor.nbytes());
  entry.sha256 = std::string(64, '0');
  return entry;
}

// Hands the bytes of a tensor to `write` piece by piece; their digest.
absl::StatusOr<std::string> CopyAndDigest(
    const at::Tensor& tensor, int64_t offset,
    const std::function<absl::Status(int64_t, std::string_view)>& write) {
  MPO_ASSIGN_OR_RETURN(const at::Tensor cpu, tensor::OnCpu(tensor));
  std::string_view bytes(static_cast<const char*>(cpu.const_data_ptr()),
                         cpu.nbytes());
  Sha256 sha;
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPieceBytes);
    sha.Update(piece);
    MPO_RETURN_IF_ERROR(write(offset, piece));
    offset += static_cast<int64_t>(piece.size());
    bytes.remove_prefix(piece.size());
  }
  return sha.HexDigest();
}

// A memory file and where others will find it.
}  // namespace

absl::StatusOr<std::shared_ptr<const PublishedWeights>>
PublishedWeights::Create(PolicyVersion version, std::string kind,
                         std::string adapter_config,
                         const std::vector<tensor::NamedTensor>& tensors,
                         const PublishOptions& options) {
  std::shared_ptr<PublishedWeights> published(new PublishedWeights());
  Manifest& manifest = published->manifest_;
  manifest.version = version;
  manifest.kind = std::move(kind);
  manifest.adapter_config = std::move(adapter_config);
  for (const tensor::NamedTensor& named : tensors) {
    MPO_ASSIGN_OR_RETURN(TensorEntry entry, Describe(named));
    manifest.total_bytes += entry.bytes;
    manifest.tensors.push_back(std::move(entry));
  }
  MPO_RETURN_IF_ERROR(
      ValidateManifest(manifest, std::numeric_limits<int64_t>::max()));
  MPO_RETURN_IF_ERROR(published->Fill(tensors, options));
  published->CutIntoChunks();
  published->sha256_ = WeightsDigest(manifest);
  return std::shared_ptr<const PublishedWeights>(std::move(published));
}

absl::Status PublishedWeights::Fill(
    const std::vector<tensor::NamedTensor>& tensors,
    const PublishOptions& options) {
  const Layout layout = LayoutOf(manifest_);
  if (options.files != nullptr) {
    auto file = options.files->Take(layout.bytes);
    sharing_ = file.status();
    if (file.ok()) file_ = *std::move(file);
  }
  if (file_ == nullptr) {
    heap_.reset(new (std::nothrow) char[layout.bytes]);
    if (heap_ == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("version ", manifest_.version, ": no memory for ",
                       layout.bytes, " bytes of weights"));
    }
  }
  const auto write = [&](int64_t at, std::string_view bytes) -> absl::Status {
    if (file_ != nullptr) return file_->Write(at, bytes);
    std::memcpy(heap_.get() + at, bytes.data(), bytes.size());
    return absl::OkStatus();
  };
  const std::vector<size_t> order = LargestFirst(manifest_);
  std::vector<absl::Status> failures(order.size());
  ParallelFor(
      order.size(), options.threads > 0 ? options.threads : tensor::Threads(),
      [&](size_t position) {
        const size_t i = order[position];
        auto sha = CopyAndDigest(tensors[i].tensor, layout.offsets[i], write);
        failures[i] = sha.status();
        if (sha.ok()) manifest_.tensors[i].sha256 = *std::move(sha);
      });
  for (const absl::Status& failure : failures) MPO_RETURN_IF_ERROR(failure);
  if (file_ == nullptr) return absl::OkStatus();
  auto offer = file_->Finish();
  sharing_ = offer.status();
  if (offer.ok()) offer_ = *std::move(offer);
  return absl::OkStatus();
}

void PublishedWeights::CutIntoChunks() {
  const Layout layout = LayoutOf(manifest_);
  for (size_t i = 0; i < manifest_.tensors.size(); ++i) {
    const std::string_view bytes(data() + layout.offsets[i],
                                 manifest_.tensors[i].bytes);
    for (size_t offset = 0; offset < bytes.size(); offset += kChunkBytes) {
      chunks_.push_back({static_cast<int>(i), static_cast<int64_t>(offset),
                         bytes.substr(offset, kChunkBytes), /*crc32c=*/0});
    }
  }
}

absl::StatusOr<std::vector<tensor::NamedTensor>> PublishedWeights::Tensors(
    std::shared_ptr<const PublishedWeights> published) {
  const at::Tensor block = at::from_blob(
      const_cast<char*>(published->data()),
      {LayoutOf(published->manifest()).bytes}, [published](void*) {},
      at::TensorOptions(at::kByte));
  return ViewsOf(published->manifest(), block);
}

Chunk PublishedWeights::chunk(int index) const {
  Chunk chunk = chunks_[index];
  chunk.crc32c = Crc32c(chunk.data);
  return chunk;
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
