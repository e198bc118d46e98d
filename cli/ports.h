// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mpo::cli {

// `count` different addresses "127.0.0.1:port" nobody listens at now.
// UNAVAILABLE: the kernel has none.
absl::StatusOr<std::vector<std::string>> FreeLoopbackAddresses(int count);

// OK when one could listen at `address` ("host:port") now. ALREADY_EXISTS: it
// is in use. INVALID_ARGUMENT: not an IPv4 host and port.
// `advice`: what gets the user a free one.
absl::Status CheckPortFree(const std::string& address,
                           const std::string& advice);

}  // namespace mpo::cli
