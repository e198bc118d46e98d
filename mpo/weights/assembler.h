// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/tensor/codec.h"
#include "mpo/weights/manifest.h"

namespace mpo::weights {

// Puts one version of the weights together from chunks and hands out tensors
// only when every byte has arrived and every digest is right. After an error
// nothing can be had from it; start again with a new one. Every error names
// version, tensor and offset. Not thread-safe.
class Assembler {
 public:
  // Allocates nothing until chunks arrive. INVALID_ARGUMENT as
  // ValidateManifest.
  static absl::StatusOr<Assembler> Create(Manifest manifest,
                                          int64_t max_bytes = int64_t{1} << 36);

  // Chunks of one tensor must come in order; tensors may be interleaved.
  // DATA_LOSS: checksum, overlap or hole. INVALID_ARGUMENT: a tensor index or
  // offset out of range, an empty chunk or one of more than kChunkBytes.
  // RESOURCE_EXHAUSTED: no memory for the version.
  absl::Status Add(const Chunk& chunk);

  // Verifies the commit record and every digest, on tensor::Threads() threads.
  // The tensors are views of one block. Call once.
  // DATA_LOSS: bytes missing, another digest. INVALID_ARGUMENT: the commit
  // names another version or another number of chunks than came.
  absl::StatusOr<std::vector<tensor::NamedTensor>> Commit(PolicyVersion version,
                                                          int chunks);

  const Manifest& manifest() const { return manifest_; }

 private:
  explicit Assembler(Manifest manifest);
  absl::Status Check(const Chunk& chunk) const;
  absl::Status Allocate();
  // "version 3, tensor 'a', offset 12".
  std::string Where(int index, int64_t offset) const;

  Manifest manifest_;
  Layout layout_;
  at::Tensor block_;             // Undefined until the first chunk.
  std::vector<int64_t> staged_;  // Bytes that have come, of each tensor.
  int chunks_ = 0;
  bool failed_ = false;
};

}  // namespace mpo::weights
