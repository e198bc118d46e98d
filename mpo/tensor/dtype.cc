// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/dtype.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mpo::tensor {
namespace {

constexpr std::array<std::pair<at::ScalarType, const char*>, 10> kNames = {{
    {at::kBool, "BOOL"},
    {at::kByte, "U8"},
    {at::kChar, "I8"},
    {at::kShort, "I16"},
    {at::kInt, "I32"},
    {at::kLong, "I64"},
    {at::kHalf, "F16"},
    {at::kBFloat16, "BF16"},
    {at::kFloat, "F32"},
    {at::kDouble, "F64"},
}};

}  // namespace

std::string DtypeName(at::ScalarType dtype) {
  for (const auto& [type, name] : kNames) {
    if (type == dtype) return name;
  }
  return "";
}

absl::StatusOr<at::ScalarType> ParseDtype(std::string_view name) {
  for (const auto& [type, known] : kNames) {
    if (name == known) return type;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype: expected one of BOOL, U8, I8, I16, I32, I64, F16, "
                   "BF16, F32, F64, "
                   "found '",
                   std::string(name), "'"));
}

}  // namespace mpo::tensor
