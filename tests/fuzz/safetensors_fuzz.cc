// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mpo/model/safetensors_header.h"

// The first byte says how long the payload is, the rest is the header. What is
// accepted must lie in the payload.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint64_t payload = data[0];
  const auto header = mpo::model::ParseSafetensorsHeader(
      {reinterpret_cast<const char*>(data + 1), size - 1}, payload, "fuzz");
  if (!header.ok()) return 0;
  uint64_t bytes = 0;
  for (const auto& [name, entry] : header->entries) {
    if (entry.begin > entry.end || entry.end > payload) std::abort();
    bytes += entry.end - entry.begin;
  }
  if (bytes != payload) std::abort();
  return 0;
}
