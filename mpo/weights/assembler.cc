// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/assembler.h"

#include <ATen/ATen.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/digest.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/threads.h"
#include "mpo/tensor/torch_errors.h"
#include "mpo/weights/staging.h"

namespace mpo::weights {

Assembler::Assembler(Manifest manifest)
    : manifest_(std::move(manifest)),
      layout_(LayoutOf(manifest_)),
      staged_(manifest_.tensors.size()) {}

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
  const int64_t have = staged_[chunk.tensor];
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
  if (!block_.defined()) {
    MPO_RETURN_IF_ERROR(Allocate());
  }
  std::memcpy(static_cast<char*>(block_.mutable_data_ptr()) +
                  layout_.offsets[chunk.tensor] + chunk.offset,
              chunk.data.data(), chunk.data.size());
  staged_[chunk.tensor] += static_cast<int64_t>(chunk.data.size());
  ++chunks_;
  return absl::OkStatus();
}

absl::Status Assembler::Allocate() {
  const absl::Status allocated = tensor::CatchTorch("allocate weights", [&] {
    block_ = at::empty({layout_.bytes}, at::kByte);
  });
  failed_ = !allocated.ok();
  return allocated;
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
    if (staged_[i] == manifest_.tensors[i].bytes) continue;
    return absl::DataLossError(absl::StrCat(
        Where(static_cast<int>(i), staged_[i]), ": commit before complete, ",
        manifest_.tensors[i].bytes, " bytes expected"));
  }
  // A version whose tensors are all empty has no chunk.
  if (!block_.defined()) MPO_RETURN_IF_ERROR(Allocate());
  MPO_RETURN_IF_ERROR(VerifyDigests(
      manifest_, static_cast<const char*>(block_.const_data_ptr()),
      tensor::Threads()));
  return ViewsOf(manifest_, std::exchange(block_, at::Tensor()));
}

}  // namespace mpo::weights
