// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mpo::tensor {

// Name of a dtype in files and on the wire, as safetensors spells it: BOOL,
// U8, I8, I16, I32, I64, F16, BF16, F32, F64. Other dtypes: empty.
std::string DtypeName(at::ScalarType dtype);

// Dtype of such a name. INVALID_ARGUMENT names an unknown one.
absl::StatusOr<at::ScalarType> ParseDtype(std::string_view name);

}  // namespace mpo::tensor
