// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace mpo::cli {

// Whether `output` is standard output: "-" or a name of it.
bool IsStdout(const std::string& output);

// Writes what a command's --output asks for: "-" is standard output; a regular
// or new file is replaced as a whole (WriteFileAtomically), through symbolic
// links; pipes and devices are written to as they are. UNAVAILABLE or
// RESOURCE_EXHAUSTED, as files do.
absl::Status WriteOutput(const std::string& output, std::string_view text);

}  // namespace mpo::cli
