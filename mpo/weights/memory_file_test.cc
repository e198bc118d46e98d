// SPDX-License-Identifier: Apache-2.0
#include "mpo/weights/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mpo::weights {
namespace {

using Catch::Contains;

constexpr int kSeals =
    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

// A file that holds `text`, and where it is to be found.
std::pair<std::shared_ptr<MemoryFile>, MemoryOffer> Filled(
    MemoryFiles& files, const std::string& text) {
  auto file = *files.Take(static_cast<int64_t>(text.size()));
  REQUIRE(file->Write(0, text).ok());
  MemoryOffer offer = *file->Finish();
  return {std::move(file), std::move(offer)};
}

// A descriptor of this process, offered as if it were a filled file.
MemoryOffer OfferOf(int fd, int64_t bytes) {
  struct stat own {};
  REQUIRE(::fstat(fd, &own) == 0);
  return {absl::StrCat("/proc/", ::getpid(), "/fd/", fd), bytes, own.st_ino, 1,
          *OwnHostGuard()};
}

TEST_CASE("A memory file reads as it was written", "[weights]") {
  const auto files = MemoryFiles::New();
  const auto [file, offer] = Filled(*files, "weights");
  CHECK(file->bytes() == "weights");
  MemoryMaps maps;
  const auto map = maps.Open(offer);
  INFO(map.status());
  REQUIRE(map.ok());
  CHECK((*map)->bytes() == "weights");
  // Twice at once.
  CHECK((*maps.Open(offer))->bytes() == "weights");
}

TEST_CASE("A map outlives the file, its files and the maps", "[weights]") {
  auto files = MemoryFiles::New();
  auto [file, offer] = Filled(*files, "weights");
  auto maps = std::make_unique<MemoryMaps>();
  const auto map = *maps->Open(offer);
  file.reset();
  files.reset();
  maps.reset();
  CHECK(map->bytes() == "weights");
  CHECK(absl::IsFailedPrecondition(MemoryMaps().Open(offer).status()));
}

TEST_CASE("Nobody but its owner can change a memory file", "[weights]") {
  const auto files = MemoryFiles::New();
  const auto [file, offer] = Filled(*files, "weights");
  const int fd = ::open(offer.path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(::pwrite(fd, "x", 1, 0) < 0);
  CHECK(::ftruncate(fd, 0) < 0);
  CHECK(::ftruncate(fd, 4096) < 0);
  CHECK(::mmap(nullptr, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
        MAP_FAILED);
  ::close(fd);
  CHECK(file->bytes() == "weights");
}

TEST_CASE("A file is filled again once nobody reads it", "[weights]") {
  const auto files = MemoryFiles::New();
  MemoryMaps maps;
  auto [first, old] = Filled(*files, "weights");
  auto map = *maps.Open(old);
  first.reset();
  // Read: another file must do.
  auto [second, other] = Filled(*files, "WEIGHTS");
  CHECK(other.inode != old.inode);
  CHECK(map->bytes() == "weights");
  map.reset();
  auto [third, again] = Filled(*files, "w3ights");
  CHECK(again.inode == old.inode);
  CHECK(again.edition > old.edition);
  CHECK_THAT(std::string(maps.Open(old).status().message()),
             Contains("holds something else by now"));
  CHECK((*maps.Open(again))->bytes() == "w3ights");
  CHECK((*maps.Open(other))->bytes() == "WEIGHTS");
}

TEST_CASE("A file that is being filled is not read", "[weights]") {
  const auto files = MemoryFiles::New();
  MemoryMaps maps;
  auto [file, offer] = Filled(*files, "weights");
  file.reset();
  const auto filling = *files->Take(7);
  CHECK(maps.Open(offer).status().code() ==
        absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(std::string(maps.Open(offer).status().message()),
             Contains("is being filled again"));
  REQUIRE(filling->Write(0, "another").ok());
  CHECK((*maps.Open(*filling->Finish()))->bytes() == "another");
}

TEST_CASE("Files of another size are let go", "[weights]") {
  const auto files = MemoryFiles::New();
  auto [small, offer] = Filled(*files, "weights");
  small.reset();
  const auto large = *files->Take(1000);
  CHECK(large->size() == 1000);
  CHECK_FALSE(MemoryMaps().Open(offer).ok());
}

TEST_CASE("Pieces may be written in any order, but not past the end",
          "[weights]") {
  const auto file = *MemoryFile::Create(8);
  REQUIRE(file->Begin());
  CHECK(file->Write(4, "hts!").ok());
  CHECK(file->Write(0, "weig").ok());
  CHECK(absl::IsInvalidArgument(file->Write(5, "ghts")));
  CHECK(absl::IsInvalidArgument(file->Write(-1, "w")));
  REQUIRE(file->Finish().ok());
  CHECK(file->bytes() == "weights!");
  CHECK(absl::IsFailedPrecondition(MemoryFile::Create(0).status()));
}

TEST_CASE("An offer that is not what it says is refused with its reason",
          "[weights]") {
  auto files = MemoryFiles::New();
  auto [file, offer] = Filled(*files, "weights");
  int fd = -1;
  std::string why;
  SECTION("another host") {
    offer.guard.boot_id = "00000000-0000-0000-0000-000000000000";
    why = "another host or process namespace";
  }
  SECTION("another process namespace") {
    ++offer.guard.pid_namespace;
    why = "another host or process namespace";
  }
  SECTION("gone") {
    file.reset();
    files.reset();
    why = "No such file";
  }
  SECTION("a descriptor that is another file by now") {
    const auto [next, other] = Filled(*files, "another");
    offer.path = other.path;
    why = "is another file by now";
  }
  SECTION("a size that is another") {
    offer.bytes += 100;
    why = "a file for 107 bytes is expected, found 128";
  }
  SECTION("not sealed") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 128) == 0);
    offer = OfferOf(fd, 7);
    why = "is not sealed";
  }
  SECTION("sealed against growing only") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 128) == 0);
    REQUIRE(::fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
    offer = OfferOf(fd, 7);
    why = "is not sealed";
  }
  SECTION("truncated and then sealed") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 3) == 0);
    REQUIRE(::fcntl(fd, F_ADD_SEALS, kSeals) == 0);
    offer = OfferOf(fd, 7);
    why = "found 3";
  }
  SECTION("never filled") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 128) == 0);
    REQUIRE(::fcntl(fd, F_ADD_SEALS, kSeals) == 0);
    offer = OfferOf(fd, 7);
    why = "holds something else by now";
  }
  SECTION("no edition") {
    offer.edition = 0;
    why = "holds something else by now";
  }
  SECTION("a pipe") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    fd = ends[0];
    offer = OfferOf(fd, 7);
    ::close(ends[1]);
    why = "a file for 7 bytes is expected";
  }
  SECTION("an empty file") {
    offer.bytes = 0;
    why = "a file for 0 bytes is expected";
  }
  SECTION("another path") {
    offer.path =
        GENERATE(as<std::string>(), "/etc/passwd", "/proc/1/fd", "/proc/1/fd/",
                 "/proc/x/fd/1", "/proc//fd/1", "/proc/1/fd/1/x",
                 "/proc/1/fd/../environ", "", "proc/1/fd/1");
    why = "expected /proc/<pid>/fd/<number>";
  }
  const absl::Status status = MemoryMaps().Open(offer).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(status.message()), Contains(why));
  if (fd >= 0) ::close(fd);
}

TEST_CASE("The host guard is the same within a process namespace",
          "[weights]") {
  const auto guard = OwnHostGuard();
  REQUIRE(guard.ok());
  CHECK(guard->boot_id.size() == 36);
  CHECK(guard->pid_namespace > 0);
  CHECK(*guard == *OwnHostGuard());
}

}  // namespace
}  // namespace mpo::weights
