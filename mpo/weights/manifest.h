// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "mpo/types/rollout.h"

namespace mpo::weights {

// Largest chunk: 1 MiB gives the best throughput of one gRPC stream.
inline constexpr int64_t kChunkBytes = int64_t{1} << 20;

// One tensor of a version.
struct TensorEntry {
  std::string name;
  std::string dtype;  // As safetensors spells it: "F32", "BF16".
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  std::string sha256;  // Of the bytes, 64 hex digits.
  bool operator==(const TensorEntry&) const = default;
};

// Describes one published version of the weights.
struct Manifest {
  PolicyVersion version = 0;
  std::string kind;            // "adapter" or "full".
  std::string adapter_config;  // adapter_config.json; empty for full weights.
  std::vector<TensorEntry> tensors;
  int64_t total_bytes = 0;
  bool operator==(const Manifest&) const = default;
};

// Where the tensors of a version lie in one block of memory: in the manifest's
// order, each at the next multiple of kTensorAlignment.
struct Layout {
  std::vector<int64_t> offsets;
  int64_t bytes = 0;  // Of the block; at least kTensorAlignment.
};
inline constexpr int64_t kTensorAlignment = 64;

// Of a manifest that is valid.
Layout LayoutOf(const Manifest& manifest);

// Indices of the manifest's tensors, the largest first: the order in which
// several threads are done soonest.
std::vector<size_t> LargestFirst(const Manifest& manifest);

// A piece of a tensor. `data` is borrowed.
struct Chunk {
  int tensor = 0;      // Index into Manifest::tensors.
  int64_t offset = 0;  // Bytes from the start of that tensor.
  std::string_view data;
  uint32_t crc32c = 0;
};

// INVALID_ARGUMENT when the manifest contradicts itself or is larger than
// `max_bytes`: unknown kind or dtype, a size that shape and dtype do not give,
// a name twice, a digest that is none, a wrong total.
absl::Status ValidateManifest(const Manifest& manifest, int64_t max_bytes);

}  // namespace mpo::weights
