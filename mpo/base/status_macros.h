// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define MPO_STATUS_CONCAT_INNER(a, b) a##b
#define MPO_STATUS_CONCAT(a, b) MPO_STATUS_CONCAT_INNER(a, b)

// Returns the status of `expr` from the enclosing function unless it is OK.
#define MPO_RETURN_IF_ERROR(expr)                               \
  do {                                                          \
    if (absl::Status mpo_status = (expr); !mpo_status.ok()) {   \
      return mpo_status;                                        \
    }                                                           \
  } while (false)

// Assigns the value of the StatusOr `expr` to `lhs`, or returns its status.
#define MPO_ASSIGN_OR_RETURN(lhs, expr) \
  MPO_ASSIGN_OR_RETURN_IMPL(MPO_STATUS_CONCAT(mpo_statusor_, __LINE__), lhs, expr)
#define MPO_ASSIGN_OR_RETURN_IMPL(statusor, lhs, expr) \
  auto statusor = (expr);                              \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)
