// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/dtype.h"
#include "mpo/tensor/finite.h"
#include "mpo/tensor/torch_errors.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kLengthBytes = 8;
// Elements copied at a time, so that a large tensor is never in memory twice.
constexpr int64_t kChunkElements = int64_t{1} << 21;

absl::Status Malformed(const std::string& source, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", message));
}

}  // namespace

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

absl::StatusOr<const SafetensorsEntry*> SafetensorsFile::Find(
    const std::string& name) const {
  auto it = header_.entries.find(name);
  if (it != header_.entries.end()) return &it->second;
  return absl::NotFoundError(
      absl::StrCat(path_.string(), ": no tensor '", name, "'"));
}

void SafetensorsFile::DropPages(uint64_t begin, uint64_t end) const {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t base = reinterpret_cast<uintptr_t>(payload_);
  // A page dropped too early is only read again.
  const uintptr_t low = (base + begin) / page * page;
  const uintptr_t high = (base + end) / page * page;
  if (low < high)
    madvise(reinterpret_cast<void*>(low), high - low, MADV_DONTNEED);
}

bool SafetensorsFile::CopyTo(const SafetensorsEntry& entry,
                             at::ScalarType dtype, at::Tensor flat) const {
  const auto width = static_cast<int64_t>(at::elementSize(dtype));
  bool finite = true;
  for (int64_t at = 0; at < flat.numel(); at += kChunkElements) {
    const int64_t count = std::min(kChunkElements, flat.numel() - at);
    const uint64_t begin = entry.begin + static_cast<uint64_t>(at * width);
    const uint64_t bytes = static_cast<uint64_t>(count * width);
    // The format does not align the payload; reading misaligned elements is
    // undefined.
    char* data = const_cast<char*>(payload_ + begin);
    at::Tensor part;
    if (reinterpret_cast<uintptr_t>(data) % width == 0) {
      part = at::from_blob(data, {count}, at::TensorOptions(dtype));
    } else {
      part = at::empty({count}, dtype);
      std::memcpy(part.mutable_data_ptr(), data, bytes);
    }
    at::Tensor out = flat.narrow(0, at, count);
    out.copy_(part);
    // A sum is finite unless a value is not (or it overflows: then look).
    finite = finite && (!out.is_floating_point() ||
                        std::isfinite(out.sum().item<double>()) ||
                        at::isfinite(out).all().item<bool>());
    DropPages(begin, begin + bytes);
  }
  return finite;
}

absl::Status SafetensorsFile::Read(const std::string& name,
                                   at::Tensor target) const {
  MPO_ASSIGN_OR_RETURN(const SafetensorsEntry* entry, Find(name));
  MPO_ASSIGN_OR_RETURN(const at::ScalarType dtype,
                       tensor::ParseDtype(entry->dtype));
  if (target.sizes() != at::IntArrayRef(entry->shape)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_.string(), ": tensor '", name, "': expected shape ",
                     tensor::ShapeString(target.sizes()), ", found ",
                     tensor::ShapeString(entry->shape)));
  }
  MPO_ASSIGN_OR_RETURN(
      const bool finite,
      tensor::CatchTorch(absl::StrCat(path_.string(), ": ", name), [&] {
        at::NoGradGuard no_grad;
        if (target.is_contiguous())
          return CopyTo(*entry, dtype, target.view(-1));
        at::Tensor dense = at::empty(target.sizes(), target.options());
        const bool all = CopyTo(*entry, dtype, dense.view(-1));
        target.copy_(dense);
        return all;
      }));
  if (finite) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path_.string(), ": tensor '", name, "' holds NaN or infinity"));
}

absl::StatusOr<at::Tensor> SafetensorsFile::Read(
    const std::string& name) const {
  MPO_ASSIGN_OR_RETURN(const SafetensorsEntry* entry, Find(name));
  MPO_ASSIGN_OR_RETURN(const at::ScalarType dtype,
                       tensor::ParseDtype(entry->dtype));
  MPO_ASSIGN_OR_RETURN(at::Tensor copy,
                       tensor::CatchTorch("allocate tensor", [&] {
                         return at::empty(entry->shape, dtype);
                       }));
  MPO_RETURN_IF_ERROR(Read(name, copy));
  return copy;
}

namespace {

// What `tensor` is written as.
at::ScalarType TypeInFile(const at::Tensor& tensor,
                          std::optional<at::ScalarType> dtype) {
  return dtype.has_value() && tensor.is_floating_point() ? *dtype
                                                         : tensor.scalar_type();
}

// Length and JSON of a file with `tensors` one after the other.
absl::StatusOr<std::string> EncodeHeader(
    const std::vector<tensor::NamedTensor>& tensors,
    std::optional<at::ScalarType> dtype) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t at = 0;
  for (const auto& [name, value] : tensors) {
    if (header.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", name, "' given twice"));
    }
    const at::ScalarType type = TypeInFile(value, dtype);
    const std::string type_name = tensor::DtypeName(type);
    if (type_name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", name, "': dtype ", c10::toString(type),
                       " cannot be encoded"));
    }
    const std::vector<int64_t> shape = value.sizes().vec();
    MPO_ASSIGN_OR_RETURN(const uint64_t size, tensor::ByteSize(type, shape));
    header[name] = {{"dtype", type_name},
                    {"shape", shape},
                    {"data_offsets", {at, at + size}}};
    at += size;
  }
  std::string text =
      header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes.push_back(static_cast<char>(text.size() >> (8 * i) & 0xff));
  return bytes + text;
}

absl::Status Append(const tensor::NamedTensor& named,
                    std::optional<at::ScalarType> dtype,
                    const AppendBytes& append) {
  at::Tensor value = named.tensor;
  const at::ScalarType type = TypeInFile(value, dtype);
  if (type != value.scalar_type()) {
    MPO_ASSIGN_OR_RETURN(value, tensor::CatchTorch("convert the dtype", [&] {
                           return value.detach().to(type);
                         }));
    MPO_RETURN_IF_ERROR(tensor::CheckFinite({{named.name, value}}));
  }
  MPO_ASSIGN_OR_RETURN(const at::Tensor cpu, tensor::OnCpu(value));
  return append({static_cast<const char*>(cpu.const_data_ptr()), cpu.nbytes()});
}

}  // namespace

absl::Status WriteSafetensors(const std::filesystem::path& path,
                              const std::vector<tensor::NamedTensor>& tensors,
                              std::optional<at::ScalarType> dtype) {
  MPO_ASSIGN_OR_RETURN(const std::string header, EncodeHeader(tensors, dtype));
  return WritePiecesAtomically(
      path, [&](const AppendBytes& append) -> absl::Status {
        MPO_RETURN_IF_ERROR(append(header));
        for (const tensor::NamedTensor& named : tensors)
          MPO_RETURN_IF_ERROR(Append(named, dtype, append));
        return absl::OkStatus();
      });
}

}  // namespace mpo::model
