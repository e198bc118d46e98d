// SPDX-License-Identifier: Apache-2.0
#include "cli/output_file.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;

absl::Status WriteTo(std::ostream& stream, const std::string& name,
                     std::string_view text) {
  stream << text << std::flush;
  if (stream) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(name, ": cannot be written"));
}

}  // namespace

bool IsStdout(const std::string& output) {
  return output == "-" || output == "/dev/stdout";
}

absl::Status WriteOutput(const std::string& output, std::string_view text) {
  if (IsStdout(output)) return WriteTo(std::cout, "standard output", text);
  std::error_code error;
  const fs::file_status found = fs::status(output, error);
  if (fs::exists(found) && !fs::is_regular_file(found) &&
      !fs::is_directory(found)) {
    std::ofstream stream(output);
    return WriteTo(stream, output, text);
  }
  // The file at the end of the links, which stay.
  const fs::path target = fs::weakly_canonical(output, error);
  return WriteFileAtomically(error ? fs::path(output) : target, text);
}

}  // namespace mpo::cli
