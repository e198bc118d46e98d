// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/status.h"

namespace mpo::cli {

// Exit codes of every command.
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kBadInput = 2;

// kOk, kBadInput for what the caller can put right (INVALID_ARGUMENT,
// NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE,
// RESOURCE_EXHAUSTED, UNIMPLEMENTED), kFailed for the rest.
int ExitCodeOf(const absl::Status& status);

// Writes "mpo: <message>" to stderr, with the code's name where the message
// does not say enough, and returns ExitCodeOf. OK writes nothing.
int Report(const absl::Status& status);

}  // namespace mpo::cli
