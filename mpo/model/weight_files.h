// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/model/safetensors.h"

namespace mpo::model {

// The file of each tensor of a Hugging Face directory.
using WeightFiles =
    std::map<std::string, std::shared_ptr<const SafetensorsFile>>;

// Opens model.safetensors, or the shards that model.safetensors.index.json
// names. NOT_FOUND for a missing file, INVALID_ARGUMENT for an index that is
// not understood or names a tensor its file does not have, else as
// SafetensorsFile::Open.
absl::StatusOr<WeightFiles> OpenWeightFiles(
    const std::filesystem::path& directory);

// dtype of the largest tensor of the directory's files. Same errors;
// INVALID_ARGUMENT too where there is no tensor.
absl::StatusOr<at::ScalarType> StoredDtype(
    const std::filesystem::path& directory);

struct WeightFileOptions {
  // Of the files; unset = as in memory.
  std::optional<at::ScalarType> dtype = std::nullopt;
  // Of a file at most, unless a single tensor is larger; 0 = no limit.
  uint64_t shard_bytes = 0;
};

// Writes model.safetensors, or where that would be larger than a shard may be
// model-<i>-of-<n>.safetensors and, last, their index. Each file is written as
// by WriteSafetensors; same errors.
absl::Status WriteWeightFiles(const std::filesystem::path& directory,
                              const std::vector<tensor::NamedTensor>& tensors,
                              const WeightFileOptions& options = {});

}  // namespace mpo::model
