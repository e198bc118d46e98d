// SPDX-License-Identifier: Apache-2.0
#include "cli/output_file.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <thread>

#include "mpo/base/file.h"
#include "tests/support/temporary_directory.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;

TEST_CASE("Output replaces a file through its link, which stays", "[cli]") {
  const TemporaryDirectory dir;
  const fs::path file = dir.path / "file", link = dir.path / "link";
  std::ofstream(file) << "a longer text of before";
  fs::create_symlink("file", link);
  REQUIRE(WriteOutput(link.string(), "new").ok());
  CHECK(fs::is_symlink(link));
  CHECK(*ReadFile(file) == "new");
}

TEST_CASE("Output makes a file that is not there yet", "[cli]") {
  const TemporaryDirectory dir;
  REQUIRE(WriteOutput((dir.path / "new").string(), "text").ok());
  CHECK(*ReadFile(dir.path / "new") == "text");
  const absl::Status status =
      WriteOutput((dir.path / "no" / "such" / "file").string(), "text");
  CHECK_THAT(std::string(status.message()), Catch::Contains("file"));
}

TEST_CASE("Output goes into a pipe and leaves it one", "[cli]") {
  const TemporaryDirectory dir;
  const fs::path pipe = dir.path / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::string read;
  std::thread reader([&] {
    std::ifstream stream(pipe);
    read.assign(std::istreambuf_iterator<char>(stream), {});
  });
  const absl::Status status = WriteOutput(pipe.string(), "two\nlines\n");
  reader.join();
  CHECK(status.ok());
  CHECK(read == "two\nlines\n");
  CHECK(fs::is_fifo(pipe));
}

TEST_CASE("A device that takes nothing is an error and stays", "[cli]") {
  CHECK(absl::IsUnavailable(WriteOutput("/dev/full", "text")));
  CHECK(fs::is_character_file("/dev/full"));
}

}  // namespace
}  // namespace mpo::cli
