// SPDX-License-Identifier: Apache-2.0
#include "cli/input_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
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

TEST_CASE("Output makes the file that a link names", "[cli]") {
  const TemporaryDirectory dir;
  fs::create_symlink("target", dir.path / "second");
  fs::create_symlink(dir.path / "second", dir.path / "first");
  REQUIRE(WriteOutput((dir.path / "first").string(), "text").ok());
  CHECK(fs::is_symlink(dir.path / "first"));
  CHECK(fs::is_symlink(dir.path / "second"));
  CHECK(*ReadFile(dir.path / "target") == "text");

  fs::create_symlink("loop", dir.path / "loop");
  const std::string loop = (dir.path / "loop").string();
  CHECK(absl::IsInvalidArgument(WriteOutput(loop, "text")));
  CHECK(absl::IsInvalidArgument(CheckOutput(loop)));
  CHECK(fs::is_symlink(loop));
}

TEST_CASE("Output to a descriptor's name goes into what is open", "[cli]") {
  const TemporaryDirectory dir;
  const fs::path file = dir.path / "file";
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  REQUIRE(::write(fd, "before ", 7) == 7);
  for (const char* folder : {"/dev/fd/", "/proc/self/fd/"})
    CHECK(WriteOutput(absl::StrCat(folder, fd), "more ").ok());
  REQUIRE(::write(fd, "after", 5) == 5);
  CHECK(*ReadFile(file) == "before more more after");
  const std::string closed = absl::StrCat("/dev/fd/", fd);
  CHECK(CheckOutput(closed).ok());
  ::close(fd);
  CHECK(absl::IsInvalidArgument(CheckOutput(closed)));
  CHECK_THAT(std::string(WriteOutput(closed, "x").message()),
             Catch::Contains(closed));
  for (const char* name : {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
    CHECK(IsStdout(name));
  for (const char* name : {"/dev/stderr", "/dev/fd/2", "/dev/null", "1"})
    CHECK_FALSE(IsStdout(name));
}

TEST_CASE("Output that cannot be is known before", "[cli]") {
  const TemporaryDirectory dir;
  for (const fs::path& good : {fs::path("-"), fs::path("/dev/null"),
                               fs::path("a_new_file"), dir.path / "new"}) {
    CHECK(CheckOutput(good.string()).ok());
  }
  CHECK(absl::IsInvalidArgument(CheckOutput(dir.path.string())));
  const std::string below = (dir.path / "none" / "file").string();
  CHECK(absl::IsNotFound(CheckOutput(below)));
}

TEST_CASE("Output keeps the mode of the file it replaces", "[cli]") {
  const TemporaryDirectory dir;
  const fs::path file = dir.path / "file";
  std::ofstream(file) << "old";
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  REQUIRE(WriteOutput(file.string(), "new").ok());
  CHECK(fs::status(file).permissions() ==
        (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("A device that takes nothing is an error and stays", "[cli]") {
  const absl::Status full = WriteOutput("/dev/full", "text");
  CHECK(absl::IsResourceExhausted(full));
  CHECK_THAT(std::string(full.message()), Catch::Contains("No space left"));
  CHECK(fs::is_character_file("/dev/full"));
}

}  // namespace
}  // namespace mpo::cli
