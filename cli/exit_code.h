// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/status.h"

namespace mpo::cli {

// Exit codes of every command.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitBadInput = 2;

// kExitOk, kExitBadInput for what the caller can put right (INVALID_ARGUMENT,
// NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE,
// RESOURCE_EXHAUSTED, UNIMPLEMENTED), kExitFailed for the rest.
int ExitCodeOf(const absl::Status& status);

// Writes "mpo: <message>" to stderr, with the code's name where the message
// does not say enough, and returns ExitCodeOf. OK writes nothing.
int Report(const absl::Status& status);

}  // namespace mpo::cli
