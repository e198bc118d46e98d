// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/dtype.h"
#include "mpo/tensor/torch_errors.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kLengthBytes = 8;

absl::Status Malformed(const std::string& source, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", message));
}

// Parses JSON of at most three levels and refuses duplicate keys, which the
// parser would silently drop.
absl::StatusOr<Json> ParseStrictly(std::string_view text,
                                   const std::string& source) {
  std::vector<std::set<std::string>> keys;
  std::string problem;
  auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        problem = absl::StrCat("duplicate key '", key, "'");
    }
    if (depth > 3) problem = "the header is nested too deeply";
    return depth <= 3;
  };
  Json json = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (!problem.empty()) return Malformed(source, problem);
  if (!json.is_object())
    return Malformed(source, "the header is not a JSON object");
  return json;
}

absl::StatusOr<uint64_t> Offset(const Json& json) {
  if (json.is_number_unsigned()) return json.get<uint64_t>();
  return absl::InvalidArgumentError("not an unsigned integer");
}

absl::StatusOr<SafetensorsEntry> ParseEntry(const Json& json, uint64_t payload,
                                            const std::string& source) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") ||
      !json.contains("shape") || !json.contains("data_offsets") ||
      !json["dtype"].is_string() || !json["shape"].is_array() ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    return Malformed(source, "expected exactly dtype, shape and data_offsets");
  }
  SafetensorsEntry entry;
  auto dtype = tensor::ParseDtype(json["dtype"].get<std::string>());
  if (!dtype.ok())
    return Malformed(source, std::string(dtype.status().message()));
  entry.dtype = *dtype;
  if (json["shape"].size() > 16)
    return Malformed(source, "more than 16 dimensions");
  for (const Json& dimension : json["shape"]) {
    auto size = Offset(dimension);
    if (!size.ok() || *size > INT64_MAX)
      return Malformed(source, "a dimension is not a size");
    entry.shape.push_back(static_cast<int64_t>(*size));
  }
  auto bytes = tensor::ByteSize(entry.dtype, entry.shape);
  if (!bytes.ok())
    return Malformed(source, std::string(bytes.status().message()));
  auto begin = Offset(json["data_offsets"][0]);
  auto end = Offset(json["data_offsets"][1]);
  if (!begin.ok() || !end.ok() || *begin > *end || *end > payload) {
    return Malformed(source, absl::StrCat("data_offsets outside the ", payload,
                                          " bytes of the file"));
  }
  if (*end - *begin != *bytes) {
    return Malformed(
        source, absl::StrCat("expected ", *bytes, " bytes, data_offsets give ",
                             *end - *begin));
  }
  entry.begin = *begin;
  entry.end = *end;
  return entry;
}

absl::Status CheckCoverage(const SafetensorsHeader& header, uint64_t payload,
                           const std::string& source) {
  std::vector<std::pair<const SafetensorsEntry*, const std::string*>> order;
  for (const auto& [name, entry] : header.entries)
    order.emplace_back(&entry, &name);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) <
           std::pair(b.first->begin, b.first->end);
  });
  uint64_t at = 0;
  for (const auto& [entry, name] : order) {
    if (entry->begin != at) {
      return Malformed(
          source, absl::StrCat("tensor '", *name, "' begins at ", entry->begin,
                               ", expected ", at, " (overlap or hole)"));
    }
    at = entry->end;
  }
  if (at != payload) {
    return Malformed(source,
                     absl::StrCat("tensors end at byte ", at, " of ", payload));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    std::string_view text, uint64_t payload, std::string_view source_name) {
  const std::string source(source_name);
  if (text.empty() || text.front() != '{')
    return Malformed(source, "the header must begin with {");
  MPO_ASSIGN_OR_RETURN(Json json, ParseStrictly(text, source));
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object())
        return Malformed(source, "__metadata__ is not an object");
      for (const auto& [key, item] : value.items()) {
        if (!item.is_string())
          return Malformed(source, "__metadata__ holds more than strings");
        header.metadata[key] = item.get<std::string>();
      }
      continue;
    }
    MPO_ASSIGN_OR_RETURN(
        header.entries[name],
        ParseEntry(value, payload,
                   absl::StrCat(source, ": tensor '", name, "'")));
  }
  MPO_RETURN_IF_ERROR(CheckCoverage(header, payload, source));
  return header;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(
    const std::filesystem::path& path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = path;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string message =
        absl::StrCat(path.string(), ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message)
                           : absl::UnavailableError(message);
  }
  absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::UnavailableError(
        absl::StrCat(path.string(), ": not a regular file"));
  }
  file->size_ = static_cast<uint64_t>(info.st_size);
  if (file->size_ < kLengthBytes) {
    return Malformed(path.string(),
                     absl::StrCat("truncated: only ", file->size_, " bytes"));
  }
  void* map = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) {
    return absl::UnavailableError(
        absl::StrCat(path.string(), ": mmap: ", std::strerror(errno)));
  }
  file->map_ = map;
  const char* bytes = static_cast<const char*>(map);
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | static_cast<unsigned char>(bytes[i]);
  if (length > kMaxHeaderBytes || length > file->size_ - kLengthBytes) {
    return Malformed(
        path.string(),
        absl::StrCat("header of ", length, " bytes in a file of ", file->size_,
                     " (truncated, or over the limit of ", kMaxHeaderBytes,
                     ")"));
  }
  file->payload_ = bytes + kLengthBytes + length;
  MPO_ASSIGN_OR_RETURN(
      file->header_, ParseSafetensorsHeader({bytes + kLengthBytes, length},
                                            file->size_ - kLengthBytes - length,
                                            path.string()));
  return std::shared_ptr<const SafetensorsFile>(std::move(file));
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) munmap(map_, size_);
}

absl::StatusOr<at::Tensor> SafetensorsFile::View(
    const std::string& name) const {
  auto it = header_.entries.find(name);
  if (it == header_.entries.end()) {
    return absl::NotFoundError(
        absl::StrCat(path_.string(), ": no tensor '", name, "'"));
  }
  const SafetensorsEntry& entry = it->second;
  return tensor::CatchTorch(absl::StrCat(path_.string(), ": ", name), [&] {
    const uint64_t size = entry.end - entry.begin;
    // The format does not align the payload; reading misaligned elements is
    // undefined.
    const char* data = payload_ + entry.begin;
    if (reinterpret_cast<uintptr_t>(data) % at::elementSize(entry.dtype) != 0) {
      at::Tensor copy = at::empty(entry.shape, entry.dtype);
      if (size > 0) std::memcpy(copy.mutable_data_ptr(), data, size);
      return copy;
    }
    return at::from_blob(const_cast<char*>(data), entry.shape,
                         at::TensorOptions(entry.dtype));
  });
}

void SafetensorsFile::DropPages(const at::Tensor& view) const {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t low = reinterpret_cast<uintptr_t>(map_);
  uintptr_t begin = reinterpret_cast<uintptr_t>(view.const_data_ptr());
  uintptr_t end = begin + view.nbytes();
  if (begin < low || end > low + size_) return;
  begin = (begin + page - 1) / page * page;
  end = end / page * page;
  if (begin < end)
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

absl::Status SafetensorsFile::Read(const std::string& name,
                                   at::Tensor target) const {
  MPO_ASSIGN_OR_RETURN(at::Tensor view, View(name));
  if (view.sizes() != target.sizes()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_.string(), ": tensor '", name, "': expected shape ",
                     tensor::ShapeString(target.sizes()), ", found ",
                     tensor::ShapeString(view.sizes())));
  }
  MPO_ASSIGN_OR_RETURN(
      bool finite, tensor::CatchTorch(absl::StrCat("read ", name), [&] {
        at::NoGradGuard no_grad;
        target.copy_(view);
        if (!target.is_floating_point()) return true;
        // A sum is finite unless a value is not (or it overflows: then look).
        return std::isfinite(target.sum(at::kDouble).item<double>()) ||
               at::isfinite(target).all().item<bool>();
      }));
  DropPages(view);
  if (!finite) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_.string(), ": tensor '", name, "' holds NaN or infinity"));
  }
  return absl::OkStatus();
}

absl::StatusOr<at::Tensor> SafetensorsFile::Read(
    const std::string& name) const {
  MPO_ASSIGN_OR_RETURN(at::Tensor view, View(name));
  MPO_ASSIGN_OR_RETURN(at::Tensor copy,
                       tensor::CatchTorch("allocate tensor", [&] {
                         return at::empty(view.sizes(), view.scalar_type());
                       }));
  MPO_RETURN_IF_ERROR(Read(name, copy));
  return copy;
}

absl::StatusOr<std::string> EncodeSafetensors(
    const std::vector<tensor::NamedTensor>& tensors) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string payload;
  for (const tensor::NamedTensor& named : tensors) {
    if (header.contains(named.name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", named.name, "' given twice"));
    }
    MPO_ASSIGN_OR_RETURN(tensor::TensorBytes bytes,
                         tensor::Encode(named.tensor));
    header[named.name] = {
        {"dtype", bytes.dtype},
        {"shape", bytes.shape},
        {"data_offsets",
         {payload.size(), payload.size() + bytes.bytes.size()}}};
    payload += bytes.bytes;
  }
  std::string text =
      header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string file;
  file.reserve(kLengthBytes + text.size() + payload.size());
  for (int i = 0; i < 8; ++i)
    file.push_back(static_cast<char>(text.size() >> (8 * i) & 0xff));
  return file.append(text).append(payload);
}

absl::Status WriteSafetensors(const std::filesystem::path& path,
                              const std::vector<tensor::NamedTensor>& tensors) {
  MPO_ASSIGN_OR_RETURN(std::string bytes, EncodeSafetensors(tensors));
  return WriteFileAtomically(path, bytes);
}

}  // namespace mpo::model
