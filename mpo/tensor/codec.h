// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::tensor {

// A tensor with the name it has in a file or manifest.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

// A tensor apart from LibTorch: row-major little-endian elements.
struct TensorBytes {
  std::string dtype;           // As DtypeName.
  std::vector<int64_t> shape;  // Empty = a scalar.
  std::string bytes;
};

// The tensor itself, without its gradient, where its elements lie row-major on
// the CPU already; else a copy that does.
absl::StatusOr<at::Tensor> OnCpu(const at::Tensor& tensor);

// Copies the elements of a tensor (any device, any strides).
// INVALID_ARGUMENT for a dtype that has no name.
absl::StatusOr<TensorBytes> Encode(const at::Tensor& tensor);

// A new CPU tensor. INVALID_ARGUMENT when the dtype is unknown, a dimension is
// negative, the size overflows or the byte count does not match.
absl::StatusOr<at::Tensor> Decode(std::string_view dtype,
                                  const std::vector<int64_t>& shape,
                                  std::string_view bytes);

// Bytes that dtype and shape need, with checked arithmetic. INVALID_ARGUMENT
// as Decode.
absl::StatusOr<uint64_t> ByteSize(at::ScalarType dtype,
                                  const std::vector<int64_t>& shape);

// "[2, 3]".
std::string ShapeString(at::IntArrayRef shape);

// SHA-256 (64 hex digits) over name, dtype, shape and bytes of each tensor in
// the given order: equal digests mean equal weights, bit for bit.
absl::StatusOr<std::string> Digest(const std::vector<NamedTensor>& tensors);

}  // namespace mpo::tensor
