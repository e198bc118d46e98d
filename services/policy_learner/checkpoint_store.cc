// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/checkpoint_store.h"

#include <fstream>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/digest.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "nlohmann/json.hpp"

namespace mpo::policy_learner {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr char kManifest[] = "MANIFEST.json";
constexpr char kTemporary[] = ".tmp";

absl::Status FileError(const fs::path& path, const std::error_code& error) {
  const std::string message =
      absl::StrCat(path.string(), ": ", error.message());
  if (error == std::errc::no_space_on_device) {
    return absl::ResourceExhaustedError(message);
  }
  return absl::UnavailableError(message);
}

// Steps with a directory, whole or not; none when there is no `directory`.
absl::StatusOr<std::map<int64_t, fs::path>> List(const fs::path& directory) {
  std::map<int64_t, fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end;
       !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string name = path.filename().string();
    int64_t step = 0;
    if (name.starts_with("step_") && absl::SimpleAtoi(name.substr(5), &step)) {
      found[step] = path;
    }
  }
  if (error == std::errc::no_such_file_or_directory) return found;
  if (error) return FileError(directory, error);
  return found;
}

struct FileDigest {
  uint64_t bytes = 0;
  std::string sha256;
};

// Piece by piece: a checkpoint may be larger than the memory.
absl::StatusOr<FileDigest> DigestOf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::UnavailableError(
        absl::StrCat(path.string(), ": cannot be opened"));
  }
  Sha256 sha256;
  FileDigest digest;
  std::vector<char> piece(size_t{1} << 20);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) ||
         file.gcount() > 0) {
    const auto count = static_cast<size_t>(file.gcount());
    sha256.Update({piece.data(), count});
    digest.bytes += count;
  }
  if (file.bad() || !file.eof()) {
    return absl::UnavailableError(
        absl::StrCat(path.string(), ": cannot be read to its end"));
  }
  digest.sha256 = sha256.HexDigest();
  return digest;
}

absl::StatusOr<Json> ReadManifest(const fs::path& path) {
  MPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 1 << 20));
  Json manifest = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto has = [&](const char* key, bool (Json::*is)() const noexcept) {
    return manifest.contains(key) && (manifest[key].*is)();
  };
  if (!manifest.is_object() ||
      !has("format_version", &Json::is_number_integer) ||
      !has("step", &Json::is_number_integer) ||
      !has("config_sha256", &Json::is_string) ||
      !has("files", &Json::is_object)) {
    return absl::DataLossError(
        absl::StrCat(path.string(), ": not a checkpoint manifest"));
  }
  return manifest;
}

// The manifest of a checkpoint whose files are all as it says.
absl::StatusOr<Json> ReadWhole(const fs::path& directory) {
  const fs::path path = directory / kManifest;
  MPO_ASSIGN_OR_RETURN(Json manifest, ReadManifest(path));
  if (manifest["format_version"] != CheckpointStore::kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        path.string(), ": format version ", manifest["format_version"].dump(),
        ", this program reads ", CheckpointStore::kFormatVersion));
  }
  for (const auto& [name, file] : manifest["files"].items()) {
    const fs::path of_file = directory / name;
    MPO_ASSIGN_OR_RETURN(const FileDigest found, DigestOf(of_file));
    if (!file.is_object() || file.value("bytes", Json()) != found.bytes ||
        file.value("sha256", Json()) != found.sha256) {
      return absl::DataLossError(absl::StrCat(
          of_file.string(), ": size or SHA-256 differs from the manifest"));
    }
  }
  return manifest;
}

}  // namespace

absl::StatusOr<CheckpointStore::Checkpoint> CheckpointStore::Write(
    int64_t step, uint64_t expected_bytes,
    const std::function<absl::Status(const fs::path&)>& fill) {
  const Checkpoint checkpoint{step,
                              options_.directory / absl::StrCat("step_", step)};
  const fs::path temporary = checkpoint.path.string() + kTemporary;
  std::error_code error;
  if (fs::exists(checkpoint.path, error)) {
    if (Verify(checkpoint).ok()) return checkpoint;
    fs::remove_all(checkpoint.path, error);
  }
  fs::create_directories(options_.directory, error);
  if (error) return FileError(options_.directory, error);
  MPO_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(options_.directory));
  if (free / 2 < expected_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        options_.directory.string(), ": a checkpoint of ", expected_bytes,
        " bytes wants twice that free, there are ", free));
  }
  fs::remove_all(temporary, error);  // Left over from a crash.
  fs::create_directories(temporary, error);
  if (error) return FileError(temporary, error);
  absl::Status status = fill(temporary);
  if (status.ok()) status = Seal(step, temporary);
  if (status.ok()) {
    fs::rename(temporary, checkpoint.path, error);
    if (error) status = FileError(checkpoint.path, error);
  }
  if (!status.ok()) {
    fs::remove_all(temporary, error);
    return status;
  }
  MPO_RETURN_IF_ERROR(SyncPath(options_.directory));
  MPO_ASSIGN_OR_RETURN(auto all, List(options_.directory));
  auto kept = all.end();
  for (int i = 0; i < options_.kept && kept != all.begin(); ++i) --kept;
  for (auto old = all.begin(); old != kept; ++old) {
    if (options_.keep_every > 0 && old->first % options_.keep_every == 0) {
      continue;
    }
    fs::remove_all(old->second, error);
    if (error) {
      logging::Warning("old checkpoint stays", {{"path", old->second.string()},
                                                {"error", error.message()}});
    }
  }
  return checkpoint;
}

absl::Status CheckpointStore::Seal(int64_t step,
                                   const fs::path& directory) const {
  Json manifest = {{"format_version", kFormatVersion},
                   {"step", step},
                   {"config_sha256", options_.config_sha256},
                   {"files", Json::object()}};
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end;
       !error && entry != end; entry.increment(error)) {
    std::error_code unknown;
    if (!entry->is_regular_file(unknown)) continue;
    const fs::path& path = entry->path();
    MPO_RETURN_IF_ERROR(SyncPath(path));
    MPO_ASSIGN_OR_RETURN(const FileDigest found, DigestOf(path));
    manifest["files"][path.lexically_relative(directory).string()] = {
        {"bytes", found.bytes}, {"sha256", found.sha256}};
  }
  if (error) return FileError(directory, error);
  MPO_RETURN_IF_ERROR(
      WriteFileAtomically(directory / kManifest, manifest.dump(2) + "\n"));
  return SyncPath(directory);
}

absl::StatusOr<CheckpointStore::Checkpoint> CheckpointStore::Read(
    const fs::path& path) {
  MPO_ASSIGN_OR_RETURN(const Json manifest, ReadWhole(path));
  return Checkpoint{manifest["step"].get<int64_t>(), path};
}

absl::Status CheckpointStore::Verify(const Checkpoint& checkpoint) const {
  MPO_ASSIGN_OR_RETURN(const Json manifest, ReadWhole(checkpoint.path));
  const fs::path path = checkpoint.path / kManifest;
  if (manifest["config_sha256"] != options_.config_sha256) {
    return absl::FailedPreconditionError(
        absl::StrCat(path.string(), ": written with configuration ",
                     manifest["config_sha256"].get<std::string>(),
                     ", this run has ", options_.config_sha256,
                     "; use the old configuration or another run directory"));
  }
  if (manifest["step"] != checkpoint.step) {
    return absl::DataLossError(
        absl::StrCat(path.string(), ": is of step ", manifest["step"].dump()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<CheckpointStore::Checkpoint>>
CheckpointStore::Newest() const {
  MPO_ASSIGN_OR_RETURN(const auto all, List(options_.directory));
  absl::Status last;
  int tried = 0;
  // Not those kept for good: the rollouts after them are gone.
  for (auto it = all.rbegin(); it != all.rend() && tried < options_.kept;
       ++it, ++tried) {
    const Checkpoint checkpoint{it->first, it->second};
    const absl::Status status = Verify(checkpoint);
    if (status.ok()) return checkpoint;
    if (absl::IsFailedPrecondition(status)) return status;
    logging::Warning("checkpoint damaged, trying the one before",
                     {{"step", checkpoint.step}, {"error", status}});
    last = status;
  }
  if (all.empty()) return std::nullopt;
  return absl::DataLossError(
      absl::StrCat(options_.directory.string(), ": the newest ", tried,
                   " checkpoints are damaged; the oldest of them: ",
                   std::string(last.message())));
}

int64_t CheckpointStore::OldestStep() const {
  const auto all = List(options_.directory);
  if (!all.ok() || all->size() < static_cast<size_t>(options_.kept)) return 0;
  return std::prev(all->end(), options_.kept)->first;
}

}  // namespace mpo::policy_learner
