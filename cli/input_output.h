// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// What the options --prompts and --output of a command name.
namespace mpo::cli {

// All of a file, or of standard input for "-". Errors as ReadFile.
absl::StatusOr<std::string> ReadInput(const std::string& input);

// Whether `output` is standard output: "-" or a name of the descriptor.
bool IsStdout(const std::string& output);

// What would make WriteOutput fail and is known before there is anything to
// write: INVALID_ARGUMENT for a directory or links without an end, NOT_FOUND
// for a file in a directory that does not exist.
absl::Status CheckOutput(const std::string& output);

// "-" is standard output; a name of an open descriptor (/dev/stderr, /dev/fd/3)
// is that; a regular or new file is replaced as a whole (WriteFileAtomically),
// through symbolic links, which stay; pipes and devices are written to as they
// are. Errors as files'.
absl::Status WriteOutput(const std::string& output, std::string_view text);

}  // namespace mpo::cli
