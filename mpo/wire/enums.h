// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace mpo::wire {

// Every enum of mpo/v1/types.proto is ours in the same order, one up: zero is
// _UNSPECIFIED. Each use is held to it by a static_assert on the last value.
template <typename Wire, typename Ours>
Wire EnumToProto(Ours value) {
  return static_cast<Wire>(static_cast<int>(value) + 1);
}

// INVALID_ARGUMENT names `field` when `value` is outside 1..last.
template <typename Ours, typename Wire>
absl::StatusOr<Ours> EnumFromProto(const char* field, Wire value, Wire last) {
  if (value < 1 || value > last) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected 1..", static_cast<int>(last), ", got ",
                     static_cast<int>(value)));
  }
  return static_cast<Ours>(static_cast<int>(value) - 1);
}

}  // namespace mpo::wire
