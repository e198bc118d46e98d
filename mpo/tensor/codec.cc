// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/codec.h"

#include <torch/torch.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/digest.h"
#include "mpo/base/status_macros.h"
#include "mpo/tensor/dtype.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::tensor {
namespace {

std::string_view View(const at::Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()),
          contiguous.nbytes()};
}

}  // namespace

absl::StatusOr<at::Tensor> OnCpu(const at::Tensor& tensor) {
  return CatchTorch("copy tensor to the CPU",
                    [&] { return tensor.detach().to(at::kCPU).contiguous(); });
}

std::string ShapeString(at::IntArrayRef shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<uint64_t> ByteSize(at::ScalarType dtype,
                                  const std::vector<int64_t>& shape) {
  uint64_t size = at::elementSize(dtype);
  for (int64_t dimension : shape) {
    if (dimension < 0 ||
        __builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size) ||
        size > static_cast<uint64_t>(INT64_MAX)) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeString(shape),
                       " has a negative or too large dimension"));
    }
  }
  return size;
}

absl::StatusOr<TensorBytes> Encode(const at::Tensor& tensor) {
  std::string dtype = DtypeName(tensor.scalar_type());
  if (dtype.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dtype ", c10::toString(tensor.scalar_type()), " cannot be encoded"));
  }
  MPO_ASSIGN_OR_RETURN(at::Tensor cpu, OnCpu(tensor));
  return TensorBytes{std::move(dtype), cpu.sizes().vec(),
                     std::string(View(cpu))};
}

absl::StatusOr<at::Tensor> Decode(std::string_view dtype,
                                  const std::vector<int64_t>& shape,
                                  std::string_view bytes) {
  MPO_ASSIGN_OR_RETURN(at::ScalarType type, ParseDtype(dtype));
  MPO_ASSIGN_OR_RETURN(uint64_t size, ByteSize(type, shape));
  if (size != bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", std::string(dtype), " ", ShapeString(shape),
                     ": expected ", size, " bytes, found ", bytes.size()));
  }
  MPO_ASSIGN_OR_RETURN(at::Tensor tensor, CatchTorch("allocate tensor", [&] {
                         return at::empty(shape, type);
                       }));
  if (size > 0) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), size);
  return tensor;
}

absl::StatusOr<std::string> Digest(const std::vector<NamedTensor>& tensors) {
  Sha256 sha;
  for (const NamedTensor& named : tensors) {
    sha.Update(absl::StrCat(named.name, "\n",
                            DtypeName(named.tensor.scalar_type()), " ",
                            ShapeString(named.tensor.sizes()), "\n"));
    MPO_ASSIGN_OR_RETURN(at::Tensor cpu, OnCpu(named.tensor));
    sha.Update(View(cpu));
  }
  return sha.HexDigest();
}

}  // namespace mpo::tensor
