// SPDX-License-Identifier: Apache-2.0
#include "cli/input_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "mpo/base/descriptor.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // As Linux follows.

// Where an output goes.
struct Target {
  int descriptor = -1;  // An open one, or
  fs::path path;        // no link.
};

absl::StatusOr<Target> Resolve(const std::string& output) {
  if (output == "-") return Target{STDOUT_FILENO, {}};
  const std::string own = absl::StrCat("/proc/", getpid(), "/fd");
  fs::path path = output;
  for (int links = 0; links <= kMostLinks; ++links) {
    std::error_code error;
    const fs::path parent = path.has_parent_path() ? path.parent_path() : ".";
    int descriptor = -1;
    if (fs::canonical(parent, error) == own &&
        absl::SimpleAtoi(path.filename().string(), &descriptor) &&
        descriptor >= 0) {
      return Target{descriptor, {}};
    }
    // A link of /proc may name what has no path, so it is opened by its own.
    const bool process = absl::StartsWith(parent.string(), "/proc/") &&
                         parent.filename() == "fd";
    if (process || !fs::is_symlink(fs::symlink_status(path, error)))
      return Target{-1, path};
    const fs::path next = fs::read_symlink(path, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat(path.string(), ": ", error.message()));
    }
    path = parent / next;  // `next` alone where it is absolute.
  }
  return absl::InvalidArgumentError(
      absl::StrCat(output, ": symbolic links without an end"));
}

}  // namespace

absl::StatusOr<std::string> ReadInput(const std::string& input) {
  return input == "-" ? ReadDescriptor(STDIN_FILENO, "standard input")
                      : ReadFile(input);
}

bool IsStdout(const std::string& output) {
  const absl::StatusOr<Target> target = Resolve(output);
  return target.ok() && target->descriptor == STDOUT_FILENO;
}

absl::Status CheckOutput(const std::string& output) {
  MPO_ASSIGN_OR_RETURN(const Target target, Resolve(output));
  if (target.descriptor >= 0) {
    const int flags = fcntl(target.descriptor, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(output, ": is not open for writing"));
  }
  std::error_code error;
  if (fs::is_directory(target.path, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(output, ": expected a file, found a directory"));
  }
  return CheckDirectory(
      target.path.has_parent_path() ? target.path.parent_path() : ".",
      absl::StrCat("a directory for ", target.path.filename().string()));
}

absl::Status WriteOutput(const std::string& output, std::string_view text) {
  MPO_ASSIGN_OR_RETURN(const Target target, Resolve(output));
  if (target.descriptor >= 0) {
    std::fflush(stdout);
    return WriteDescriptor(
        target.descriptor,
        target.descriptor == STDOUT_FILENO ? "standard output" : output, text);
  }
  std::error_code error;
  const fs::file_status found = fs::status(target.path, error);
  if (!fs::exists(found) || fs::is_regular_file(found))
    return WriteFileAtomically(target.path, text);
  const int fd = open(target.path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot open", output);
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  return WriteDescriptor(fd, output, text);
}

}  // namespace mpo::cli
