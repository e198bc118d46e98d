// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/weight_files.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/dtype.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

constexpr char kWhole[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

uint64_t BytesInFile(const at::Tensor& tensor,
                     const WeightFileOptions& options) {
  const at::ScalarType type = tensor.is_floating_point()
                                  ? options.dtype.value_or(tensor.scalar_type())
                                  : tensor.scalar_type();
  return at::elementSize(type) * static_cast<uint64_t>(tensor.numel());
}

// In the given order, as few as that allows.
std::vector<std::vector<tensor::NamedTensor>> Shards(
    const std::vector<tensor::NamedTensor>& tensors,
    const WeightFileOptions& options) {
  std::vector<std::vector<tensor::NamedTensor>> shards(1);
  uint64_t held = 0;
  for (const tensor::NamedTensor& named : tensors) {
    const uint64_t size = BytesInFile(named.tensor, options);
    if (options.shard_bytes > 0 && !shards.back().empty() &&
        held + size > options.shard_bytes) {
      shards.emplace_back();
      held = 0;
    }
    shards.back().push_back(named);
    held += size;
  }
  return shards;
}

}  // namespace

absl::StatusOr<WeightFiles> OpenWeightFiles(
    const std::filesystem::path& directory) {
  WeightFiles found;
  const auto index_path = directory / kIndex;
  if (!std::filesystem::exists(index_path)) {
    MPO_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(directory / kWhole));
    for (const auto& [name, entry] : file->header().entries) found[name] = file;
    return found;
  }
  MPO_ASSIGN_OR_RETURN(std::string text,
                       ReadFile(index_path, uint64_t{1} << 28));
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("weight_map") ||
      !json["weight_map"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        index_path.string(), ": expected an object with weight_map"));
  }
  WeightFiles files;  // By their own names.
  for (const auto& [name, shard] : json["weight_map"].items()) {
    const std::string file_name =
        shard.is_string() ? shard.get<std::string>() : "";
    if (file_name.empty() || file_name.find('/') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path.string(), ": tensor '", name,
                       "': expected a file of the directory"));
    }
    auto& file = files[file_name];
    if (file == nullptr) {
      MPO_ASSIGN_OR_RETURN(file, SafetensorsFile::Open(directory / file_name));
    }
    if (file->header().entries.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path.string(), ": tensor '", name, "' is not in ",
                       file->path().string()));
    }
    found[name] = file;
  }
  return found;
}

absl::StatusOr<at::ScalarType> StoredDtype(
    const std::filesystem::path& directory) {
  MPO_ASSIGN_OR_RETURN(const WeightFiles files, OpenWeightFiles(directory));
  const SafetensorsEntry* largest = nullptr;
  for (const auto& [name, file] : files) {
    const SafetensorsEntry& entry = file->header().entries.at(name);
    if (largest == nullptr ||
        entry.end - entry.begin > largest->end - largest->begin) {
      largest = &entry;
    }
  }
  if (largest == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory.string(), ": its files hold no tensor"));
  }
  return tensor::ParseDtype(largest->dtype);
}

absl::Status WriteWeightFiles(const std::filesystem::path& directory,
                              const std::vector<tensor::NamedTensor>& tensors,
                              const WeightFileOptions& options) {
  const auto shards = Shards(tensors, options);
  if (shards.size() == 1)
    return WriteSafetensors(directory / kWhole, tensors, options.dtype);
  nlohmann::json map;
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    for (const tensor::NamedTensor& named : shards[i]) {
      map[named.name] = name;
      total += BytesInFile(named.tensor, options);
    }
    MPO_RETURN_IF_ERROR(
        WriteSafetensors(directory / name, shards[i], options.dtype));
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}},
                                {"weight_map", map}};
  return WriteFileAtomically(directory / kIndex, index.dump(2) + "\n");
}

}  // namespace mpo::model
