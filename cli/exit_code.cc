// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.h"

#include <cstdio>
#include <string>

namespace mpo::cli {

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnimplemented:
      return kExitBadInput;
    default:
      return kExitFailed;
  }
}

int Report(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  const std::string message(status.message());
  std::fprintf(stderr, "mpo: %s\n",
               message.empty() ? status.ToString().c_str() : message.c_str());
  return ExitCodeOf(status);
}

}  // namespace mpo::cli
