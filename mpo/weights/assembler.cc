// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/assembler.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/digest.h"
#include "mpo/base/status_macros.h"

namespace mpo::weights {

Assembler::Assembler(Manifest manifest)
    : manifest_(std::move(manifest)), staged_(manifest_.tensors.size()) {}

absl::StatusOr<Assembler> Assembler::Create(Manifest manifest,
                                            int64_t max_bytes) {
  MPO_RETURN_IF_ERROR(ValidateManifest(manifest, max_bytes));
  return Assembler(std::move(manifest));
}

std::string Assembler::Where(int index, int64_t offset) const {
  return absl::StrCat("version ", manifest_.version, ", tensor '",
                      manifest_.tensors[index].name, "', offset ", offset);
}

absl::Status Assembler::Check(const Chunk& chunk) const {
  if (chunk.tensor < 0 ||
      chunk.tensor >= static_cast<int>(manifest_.tensors.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "version ", manifest_.version, ", tensor index ", chunk.tensor,
        ", offset ", chunk.offset, ": the manifest lists ",
        manifest_.tensors.size(), " tensors"));
  }
  const std::string where = Where(chunk.tensor, chunk.offset);
  const TensorEntry& entry = manifest_.tensors[chunk.tensor];
  const auto size = static_cast<int64_t>(chunk.data.size());
  if (size == 0 || size > kChunkBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected a chunk of 1 to ", kChunkBytes,
                     " bytes, got ", size));
  }
  if (chunk.offset < 0 || chunk.offset > entry.bytes ||
      size > entry.bytes - chunk.offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": ", size, " bytes reach past the tensor's ", entry.bytes));
  }
  const auto have = static_cast<int64_t>(staged_[chunk.tensor].size());
  if (chunk.offset != have) {
    return absl::DataLossError(absl::StrCat(
        where, chunk.offset < have ? ": overlaps" : ": leaves a hole",
        ", expected offset ", have));
  }
  if (const uint32_t crc = Crc32c(chunk.data); crc != chunk.crc32c) {
    return absl::DataLossError(absl::StrCat(
        where, ": CRC-32C is ", crc, ", the sender says ", chunk.crc32c));
  }
  return absl::OkStatus();
}

absl::Status Assembler::Add(const Chunk& chunk) {
  if (failed_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "version ", manifest_.version, ": an earlier chunk was refused"));
  }
  if (absl::Status status = Check(chunk); !status.ok()) {
    failed_ = true;
    return status;
  }
  std::string& staged = staged_[chunk.tensor];
  staged.append(chunk.data);
  ++chunks_;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<tensor::NamedTensor>> Assembler::Commit(
    PolicyVersion version, int chunks) {
  if (std::exchange(failed_, true)) {
    return absl::FailedPreconditionError(
        absl::StrCat("version ", manifest_.version,
                     ": an earlier chunk was refused, or committed already"));
  }
  if (version != manifest_.version || chunks != chunks_) {
    return absl::InvalidArgumentError(
        absl::StrCat("version ", manifest_.version, ": ", chunks_,
                     " chunks came, the commit names version ", version,
                     " and ", chunks, " chunks"));
  }
  for (size_t i = 0; i < staged_.size(); ++i) {
    const TensorEntry& entry = manifest_.tensors[i];
    const auto have = static_cast<int64_t>(staged_[i].size());
    const std::string where = Where(static_cast<int>(i), have);
    if (have != entry.bytes) {
      return absl::DataLossError(absl::StrCat(
          where, ": commit before complete, ", entry.bytes, " bytes expected"));
    }
    if (const std::string sha = Sha256Hex(staged_[i]); sha != entry.sha256) {
      return absl::DataLossError(absl::StrCat(
          where, ": SHA-256 is ", sha, ", the manifest says ", entry.sha256));
    }
  }
  std::vector<tensor::NamedTensor> tensors;
  for (size_t i = 0; i < staged_.size(); ++i) {
    const TensorEntry& entry = manifest_.tensors[i];
    MPO_ASSIGN_OR_RETURN(at::Tensor value,
                         tensor::Decode(entry.dtype, entry.shape, staged_[i]));
    staged_[i] = std::string();
    tensors.push_back({entry.name, std::move(value)});
  }
  return tensors;
}

}  // namespace mpo::weights
