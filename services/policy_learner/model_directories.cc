// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/model_directories.h"

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/model/companion_files.h"
#include "mpo/model/lora.h"
#include "nlohmann/json.hpp"

namespace mpo::policy_learner {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr char kMark[] = "mpo.json";
constexpr uint64_t kSlack = uint64_t{64} << 20;  // Tokenizer and headers.

absl::Status Failed(const fs::path& path, const std::error_code& error) {
  return absl::UnavailableError(
      absl::StrCat(path.string(), ": ", error.message()));
}

std::string MarkOf(const weights::PublishedWeights& published,
                   at::ScalarType dtype) {
  return Json{{"version", published.version()},
              {"weights_sha256", published.sha256()},
              {"kind", published.manifest().kind},
              {"dtype", at::toString(dtype)}}
             .dump(2) +
         "\n";
}

// The version of a directory that this class has written, else -1.
PolicyVersion VersionOf(const fs::path& directory) {
  const std::string name = directory.filename().string();
  PolicyVersion version = -1;
  std::error_code error;
  if (!absl::StartsWith(name, "step_") ||
      !absl::SimpleAtoi(name.substr(5), &version) ||
      !fs::exists(directory / kMark, error)) {
    return -1;
  }
  return version;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelDirectories>> ModelDirectories::Create(
    Options options, std::shared_ptr<const model::LanguageModel> base) {
  std::error_code error;
  options.directory = fs::absolute(options.directory, error).lexically_normal();
  if (!error) fs::create_directories(options.directory, error);
  if (error) return Failed(options.directory, error);
  for (const auto& entry : fs::directory_iterator(options.directory, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, ".step_")) fs::remove_all(entry.path(), error);
  }
  if (error) return Failed(options.directory, error);
  return std::unique_ptr<ModelDirectories>(
      new ModelDirectories(std::move(options), std::move(base)));
}

fs::path ModelDirectories::PathOf(PolicyVersion version) const {
  return options_.directory / absl::StrCat("step_", version);
}

absl::StatusOr<std::shared_ptr<const model::LanguageModel>>
ModelDirectories::Merged(const Published& published) const {
  using model::LanguageModel;
  MPO_ASSIGN_OR_RETURN(const auto tensors,
                       weights::PublishedWeights::Tensors(published));
  const model::LoadOptions as_written = {.dtype = options_.dtype};
  if (published->manifest().kind == "full") {
    return LanguageModel::FromTensors(base_->config(), tensors, as_written,
                                      LanguageModel::Memory::kShared);
  }
  MPO_ASSIGN_OR_RETURN(
      const model::LoraConfig config,
      model::ParsePeftJson(published->manifest().adapter_config,
                           base_->config(), "published adapter"));
  MPO_ASSIGN_OR_RETURN(
      const auto adapter,
      model::LoraAdapter::FromTensors(config, base_->config(), tensors));
  MPO_ASSIGN_OR_RETURN(auto merged, model::Merge(*base_, *adapter));
  if (merged->dtype() == options_.dtype) return merged;
  return LanguageModel::FromTensors(merged->config(), merged->StateDict(),
                                    as_written);
}

absl::Status ModelDirectories::Fill(const Published& published,
                                    const fs::path& directory) const {
  MPO_ASSIGN_OR_RETURN(const auto merged, Merged(published));
  MPO_RETURN_IF_ERROR(merged->Save(directory));
  MPO_RETURN_IF_ERROR(model::CopyCompanionFiles(options_.model, directory));
  MPO_RETURN_IF_ERROR(WriteFileAtomically(directory / kMark,
                                          MarkOf(*published, options_.dtype)));
  return SyncPath(directory);
}

absl::Status ModelDirectories::WriteAside(const Published& published,
                                          const fs::path& path) {
  const uint64_t needed = static_cast<uint64_t>(base_->config().parameters()) *
                              at::elementSize(options_.dtype) +
                          kSlack;
  MPO_ASSIGN_OR_RETURN(const uint64_t room, FreeBytes(options_.directory));
  if (room < needed) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path.string(), ": needs ", needed >> 20, " MiB of disk, ",
                     room >> 20, " MiB are free"));
  }
  const fs::path aside =
      options_.directory / absl::StrCat(".", path.filename().string());
  std::error_code error;
  fs::remove_all(aside, error);
  if (absl::Status filled = Fill(published, aside); !filled.ok()) {
    fs::remove_all(aside, error);
    return filled;
  }
  fs::remove_all(path, error);
  fs::rename(aside, path, error);
  if (error) return Failed(path, error);
  return SyncPath(options_.directory);
}

absl::StatusOr<fs::path> ModelDirectories::Write(const Published& published) {
  const PolicyVersion version = published->version();
  const fs::path path = PathOf(version);
  absl::Status pruned;
  {
    MutexLock lock(mu_);
    const auto mark = ReadFile(path / kMark, 1 << 16);
    if (!mark.ok() || *mark != MarkOf(*published, options_.dtype)) {
      MPO_RETURN_IF_ERROR(WriteAside(published, path));
    }
    held_.insert(version);
    pruned = Prune(version);
  }
  if (!pruned.ok()) {
    logging::Warning("old model directory stays", {{"error", pruned}});
  }
  return path;
}

void ModelDirectories::Release(PolicyVersion version) {
  MutexLock lock(mu_);
  if (const auto it = held_.find(version); it != held_.end()) held_.erase(it);
}

absl::Status ModelDirectories::Prune(PolicyVersion newest) {
  std::map<PolicyVersion, fs::path> older;  // And the newest itself.
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options_.directory, error)) {
    const PolicyVersion version = VersionOf(entry.path());
    if (version >= 0 && version <= newest) older[version] = entry.path();
  }
  absl::Status status;
  int excess = static_cast<int>(older.size()) - options_.kept;
  for (const auto& [version, path] : older) {
    if (excess-- <= 0) break;
    if (held_.count(version) > 0) continue;
    fs::remove_all(path, error);
    if (error) status.Update(Failed(path, error));
  }
  return status;
}

}  // namespace mpo::policy_learner
