// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::model {

// Where one tensor lies in a safetensors file.
struct SafetensorsEntry {
  std::string dtype;  // BOOL, U8, I8, I16, I32, I64, F16, BF16, F32 or F64.
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // Bytes from the end of the header.
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

// Parses the JSON part of a file whose tensors take `payload_bytes`. Strict:
// UTF-8 that begins with '{', no duplicate keys, at most 100,000 tensors of
// known dtypes and at most 8 dimensions, sizes that match shape and dtype,
// ranges that cover the payload without overlap, hole or remainder, metadata of
// strings only. INVALID_ARGUMENT names `source` and the tensor.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    std::string_view json, uint64_t payload_bytes, std::string_view source);

}  // namespace mpo::model
