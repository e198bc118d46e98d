// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/rollout_spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/digest.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"

namespace mpo::policy_learner {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFrameBytes = 8;
constexpr size_t kMaxKeyBytes = 255;
constexpr size_t kMaxRecordBytes = size_t{256} << 20;

template <typename T>
void AppendNumber(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
T NumberAt(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string Encode(const SpoolRecord& record) {
  std::string payload;
  AppendNumber(payload, record.step);
  AppendNumber(payload, static_cast<uint8_t>(record.key.size()));
  payload += record.key;
  payload += record.bytes;
  std::string out;
  AppendNumber(out, static_cast<uint32_t>(payload.size()));
  AppendNumber(out, Crc32c(payload));
  return out + payload;
}

struct Payload {
  int64_t step;
  std::string_view key;
  std::string_view bytes;
};

std::optional<Payload> Decode(std::string_view payload) {
  constexpr size_t kFixed = sizeof(int64_t) + 1;
  if (payload.size() < kFixed) return std::nullopt;
  const size_t key = NumberAt<uint8_t>(payload, sizeof(int64_t));
  if (payload.size() < kFixed + key) return std::nullopt;
  return Payload{NumberAt<int64_t>(payload, 0), payload.substr(kFixed, key),
                 payload.substr(kFixed + key)};
}

// The payload of the frame at `offset`, if one is there whole.
std::optional<std::string_view> FrameAt(std::string_view content,
                                        size_t offset) {
  if (content.size() - offset < kFrameBytes) return std::nullopt;
  const auto length = NumberAt<uint32_t>(content, offset);
  if (length > content.size() - offset - kFrameBytes) return std::nullopt;
  const std::string_view payload = content.substr(offset + kFrameBytes, length);
  if (!Decode(payload).has_value() ||
      Crc32c(payload) != NumberAt<uint32_t>(content, offset + 4)) {
    return std::nullopt;
  }
  return payload;
}

// Whether a record begins anywhere in `content`.
bool HoldsRecord(std::string_view content) {
  for (size_t offset = 0; offset < content.size(); ++offset) {
    if (FrameAt(content, offset).has_value()) return true;
  }
  return false;
}

absl::Status ErrnoStatus(const fs::path& path, const char* what, int error) {
  const std::string message =
      absl::StrCat(path.string(), ": ", what, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(message);
  }
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RolloutSpool>> RolloutSpool::Open(
    const Options& options) {
  std::error_code error;
  fs::create_directories(options.directory, error);
  if (error) {
    return ErrnoStatus(options.directory, "create", error.value());
  }
  std::map<int64_t, fs::path> files;
  for (const auto& file : fs::directory_iterator(options.directory, error)) {
    const std::string name = file.path().stem().string();
    int64_t number = 0;
    if (file.path().extension() == ".spool" &&
        absl::SimpleAtoi(name, &number)) {
      files[number] = file.path();
    }
  }
  if (error) return ErrnoStatus(options.directory, "list", error.value());
  std::unique_ptr<RolloutSpool> spool(new RolloutSpool(options));
  MutexLock lock(spool->mu_);
  for (const auto& [number, path] : files) {
    MPO_RETURN_IF_ERROR(
        spool->LoadSegment(path, number, number == files.rbegin()->first));
  }
  spool->size_ = static_cast<int64_t>(spool->entries_.size());
  return spool;
}

RolloutSpool::~RolloutSpool() {
  MutexLock lock(mu_);
  for (const Segment& segment : segments_) {
    if (segment.fd >= 0) ::close(segment.fd);
  }
}

absl::Status RolloutSpool::LoadSegment(const fs::path& path, int64_t number,
                                       bool last) {
  MPO_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  Segment& segment = segments_.emplace_back();
  segment.path = path;
  segment.number = number;
  segment.fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (segment.fd < 0) return ErrnoStatus(path, "open", errno);
  segment.bytes = Index(segment, content);
  if (segment.bytes == content.size()) return absl::OkStatus();
  // A torn tail ends the file; what lies before another record was whole.
  if (!last || HoldsRecord(std::string_view(content).substr(segment.bytes))) {
    return absl::DataLossError(absl::StrCat(
        path.string(), ": damaged record at byte ", segment.bytes, " of ",
        content.size(), "; bring the file back from a copy"));
  }
  logging::Warning("spool tail cut", {{"file", path.string()},
                                      {"kept_bytes", segment.bytes},
                                      {"bytes", content.size()}});
  if (::ftruncate(segment.fd, static_cast<off_t>(segment.bytes)) != 0 ||
      ::fsync(segment.fd) != 0) {
    return ErrnoStatus(path, "truncate", errno);
  }
  return absl::OkStatus();
}

uint64_t RolloutSpool::Index(Segment& segment, std::string_view content) {
  size_t offset = 0;
  while (const auto payload = FrameAt(content, offset)) {
    const std::optional<Payload> record = Decode(*payload);
    entries_.insert_or_assign(
        std::string(record->key),
        Entry{&segment, offset + kFrameBytes,
              static_cast<uint32_t>(payload->size()),
              NumberAt<uint32_t>(content, offset + 4), record->step});
    segment.newest_step = std::max(segment.newest_step, record->step);
    offset += kFrameBytes + payload->size();
  }
  return offset;
}

absl::Status RolloutSpool::StartSegment() {
  const int64_t number = segments_.empty() ? 1 : segments_.back().number + 1;
  Segment segment;
  segment.number = number;
  segment.path = options_.directory / absl::StrFormat("%08d.spool", number);
  segment.fd = ::open(segment.path.c_str(),
                      O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (segment.fd < 0) return ErrnoStatus(segment.path, "create", errno);
  segments_.push_back(segment);
  return SyncPath(options_.directory);
}

absl::Status RolloutSpool::Write(Segment& segment, std::string_view bytes) {
  int error = 0;
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n =
        ::pwrite(segment.fd, bytes.data() + written, bytes.size() - written,
                 static_cast<off_t>(segment.bytes + written));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      error = n < 0 ? errno : EIO;
      break;
    }
    written += static_cast<size_t>(n);
  }
  const char* what = "write";
  if (error == 0 && ::fdatasync(segment.fd) != 0) {
    // The kernel may have dropped the pages: this file cannot be trusted with
    // more records.
    error = errno;
    what = "fsync";
    segment.broken = true;
  }
  if (error == 0) {
    segment.bytes += bytes.size();
    return absl::OkStatus();
  }
  if (::ftruncate(segment.fd, static_cast<off_t>(segment.bytes)) != 0) {
    segment.broken = true;
  }
  return ErrnoStatus(segment.path, what, error);
}

absl::StatusOr<AppendResult> RolloutSpool::Append(
    const std::vector<SpoolRecord>& records) {
  MutexLock lock(mu_);
  AppendResult result;
  std::map<std::string, Entry> added;
  std::string bytes;
  int64_t newest = 0;
  for (const SpoolRecord& record : records) {
    if (record.key.empty() || record.key.size() > kMaxKeyBytes ||
        record.bytes.size() > kMaxRecordBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rollout '", record.key, "': a key of 1 to ", kMaxKeyBytes,
          " bytes and a record of at most ", kMaxRecordBytes, " expected"));
    }
    if (record.step <= dropped_through_ || entries_.contains(record.key) ||
        added.contains(record.key)) {
      ++result.duplicates;
      continue;
    }
    const std::string encoded = Encode(record);
    const auto length = static_cast<uint32_t>(encoded.size() - kFrameBytes);
    added[record.key] = {nullptr, bytes.size() + kFrameBytes, length,
                         NumberAt<uint32_t>(encoded, 4), record.step};
    bytes += encoded;
    newest = std::max(newest, record.step);
    ++result.accepted;
  }
  if (added.empty()) return result;
  uint64_t total = bytes.size();
  for (const Segment& segment : segments_) total += segment.bytes;
  if (total > options_.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "spool is full: ", total, " bytes would be over ", options_.max_bytes));
  }
  if (segments_.empty() || segments_.back().broken ||
      segments_.back().bytes >= options_.segment_bytes) {
    MPO_RETURN_IF_ERROR(StartSegment());
  }
  Segment& segment = segments_.back();
  const uint64_t base = segment.bytes;
  MPO_RETURN_IF_ERROR(Write(segment, bytes));
  segment.newest_step = std::max(segment.newest_step, newest);
  for (auto& [key, entry] : added) {
    entry.segment = &segment;
    entry.offset += base;
    entries_[key] = entry;
  }
  size_ = static_cast<int64_t>(entries_.size());
  arrived_.NotifyAll();
  return result;
}

absl::Status RolloutSpool::WaitFor(const std::vector<std::string>& keys,
                                   std::stop_token stop,
                                   absl::Duration timeout) {
  MutexLock lock(mu_);
  std::string missing;
  int count = 0;
  const auto complete = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    count = 0;
    for (const std::string& key : keys) {
      if (entries_.contains(key)) continue;
      if (count++ == 0) missing = key;
    }
    return count == 0;
  };
  if (arrived_.WaitFor(mu_, stop, timeout, complete)) return absl::OkStatus();
  if (stop.stop_requested()) return absl::CancelledError("stopped");
  return absl::DeadlineExceededError(
      absl::StrCat(count, " of ", keys.size(),
                   " rollouts have not arrived, among them '", missing, "'"));
}

absl::StatusOr<std::string> RolloutSpool::Read(const std::string& key) const {
  MutexLock lock(mu_);
  const auto it = entries_.find(key);
  if (it == entries_.end()) {
    return absl::NotFoundError(
        absl::StrCat("rollout '", key, "' is not in the spool"));
  }
  const Entry& entry = it->second;
  std::string payload(entry.length, '\0');
  const ssize_t n = ::pread(entry.segment->fd, payload.data(), payload.size(),
                            static_cast<off_t>(entry.offset));
  if (n != static_cast<ssize_t>(payload.size()) ||
      Crc32c(payload) != entry.crc32c) {
    return absl::DataLossError(absl::StrCat(entry.segment->path.string(),
                                            ": rollout '", key, "' at byte ",
                                            entry.offset, " is damaged"));
  }
  return std::string(Decode(payload)->bytes);
}

absl::Status RolloutSpool::DropThrough(int64_t step) {
  MutexLock lock(mu_);
  dropped_through_ = std::max(dropped_through_, step);
  std::erase_if(entries_,
                [&](const auto& item) { return item.second.step <= step; });
  size_ = static_cast<int64_t>(entries_.size());
  for (auto it = segments_.begin(); it != segments_.end();) {
    if (it->newest_step > step || it->bytes == 0) {
      ++it;
      continue;
    }
    ::close(it->fd);
    if (::unlink(it->path.c_str()) != 0 && errno != ENOENT) {
      const absl::Status status = ErrnoStatus(it->path, "delete", errno);
      segments_.erase(it);
      return status;
    }
    it = segments_.erase(it);
  }
  return absl::OkStatus();
}

}  // namespace mpo::policy_learner
