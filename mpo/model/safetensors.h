// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/safetensors_header.h"
#include "mpo/tensor/codec.h"

namespace mpo::model {

// A safetensors file, memory-mapped. Immutable and thread-safe; the map lasts
// as long as the object.
class SafetensorsFile {
 public:
  // NOT_FOUND when the file is missing, INVALID_ARGUMENT when it breaks the
  // format (truncated, lying header, header over 100 MB), UNAVAILABLE when it
  // cannot be mapped.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(
      const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const SafetensorsHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return path_; }

  // Copies a tensor into `target`, converting its dtype, in chunks whose pages
  // are dropped at once, so that loading needs little more than the weights.
  // NOT_FOUND when there is no such tensor, INVALID_ARGUMENT when the shapes
  // differ, or the values are not finite.
  absl::Status Read(const std::string& name, at::Tensor target) const;

  // A copy of a tensor as it is stored. NOT_FOUND, or INVALID_ARGUMENT when a
  // value is not finite.
  absl::StatusOr<at::Tensor> Read(const std::string& name) const;

 private:
  SafetensorsFile() = default;
  absl::StatusOr<const SafetensorsEntry*> Find(const std::string& name) const;
  // Copies chunk by chunk; false when a value is not finite.
  bool CopyTo(const SafetensorsEntry& entry, at::ScalarType dtype,
              at::Tensor flat) const;
  // Of bytes [begin, end) of the payload.
  void DropPages(uint64_t begin, uint64_t end) const;

  std::filesystem::path path_;
  void* map_ = nullptr;
  uint64_t size_ = 0;
  const char* payload_ = nullptr;
  SafetensorsHeader header_;
};

// Writes such a file so that a crash leaves the old or the new one. Tensors are
// written in turn, so that no more than one is in memory twice. `dtype` where
// given: what floating-point tensors are converted to. INVALID_ARGUMENT for a
// duplicate name or a dtype without a name, DATA_LOSS for a tensor that is not
// finite after its conversion, else as WriteFileAtomically.
absl::Status WriteSafetensors(
    const std::filesystem::path& path,
    const std::vector<tensor::NamedTensor>& tensors,
    std::optional<at::ScalarType> dtype = std::nullopt);

}  // namespace mpo::model
