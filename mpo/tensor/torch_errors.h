// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::tensor {

// Status of the exception in flight; call inside a catch block only.
// RESOURCE_EXHAUSTED for memory that could not be had, INTERNAL for the rest;
// the message starts with `what`.
absl::Status StatusOfCurrentException(std::string_view what);

// Runs `function` and turns an exception of LibTorch (or of the standard
// library) into a Status, so that none crosses a folder. Returns Status for a
// function that returns void or Status, StatusOr<T> for one that returns T or
// StatusOr<T>. `what` names the work in the message.
template <typename Function>
auto CatchTorch(std::string_view what, Function&& function) {
  using Result = std::invoke_result_t<Function>;
  if constexpr (std::is_void_v<Result>) {
    try {
      std::forward<Function>(function)();
      return absl::OkStatus();
    } catch (...) {
      return StatusOfCurrentException(what);
    }
  } else if constexpr (std::is_constructible_v<Result, absl::Status>) {
    try {
      return Result(std::forward<Function>(function)());
    } catch (...) {
      return Result(StatusOfCurrentException(what));
    }
  } else {
    try {
      return absl::StatusOr<Result>(std::forward<Function>(function)());
    } catch (...) {
      return absl::StatusOr<Result>(StatusOfCurrentException(what));
    }
  }
}

}  // namespace mpo::tensor
