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

// A sealed file that holds `text`, and where it is to be found.
std::pair<std::shared_ptr<const MemoryMap>, MemoryOffer> Sealed(
    const std::string& text) {
  auto file = *MemoryFile::Create(static_cast<int64_t>(text.size()));
  REQUIRE(file->Write(0, text).ok());
  MemoryOffer offer = *file->Offer();
  return {*file->Seal(), std::move(offer)};
}

// A descriptor of this process, offered as if it were a sealed file.
MemoryOffer OfferOf(int fd, int64_t bytes) {
  struct stat own {};
  REQUIRE(::fstat(fd, &own) == 0);
  return {absl::StrCat("/proc/", ::getpid(), "/fd/", fd), bytes, own.st_ino,
          *OwnHostGuard()};
}

TEST_CASE("A sealed memory file reads as it was written", "[weights]") {
  const auto [map, offer] = Sealed("weights");
  CHECK(map->bytes() == "weights");
  const auto other = MemoryMap::Open(offer);
  INFO(other.status());
  REQUIRE(other.ok());
  CHECK((*other)->bytes() == "weights");
}

TEST_CASE("A map outlives the file and its owner's map", "[weights]") {
  auto [map, offer] = Sealed("weights");
  const auto other = *MemoryMap::Open(offer);
  map.reset();
  CHECK(other->bytes() == "weights");
  CHECK(absl::IsFailedPrecondition(MemoryMap::Open(offer).status()));
}

TEST_CASE("Nobody can change a sealed memory file", "[weights]") {
  const auto [map, offer] = Sealed("weights");
  const int fd = ::open(offer.path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(::pwrite(fd, "x", 1, 0) < 0);
  CHECK(::ftruncate(fd, 0) < 0);
  CHECK(::ftruncate(fd, 4096) < 0);
  CHECK(::mmap(nullptr, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
        MAP_FAILED);
  ::close(fd);
  CHECK(map->bytes() == "weights");
}

TEST_CASE("Pieces may be written in any order, but not past the end",
          "[weights]") {
  const auto file = *MemoryFile::Create(8);
  CHECK(file->Write(4, "hts!").ok());
  CHECK(file->Write(0, "weig").ok());
  CHECK(absl::IsInvalidArgument(file->Write(5, "ghts")));
  CHECK(absl::IsInvalidArgument(file->Write(-1, "w")));
  CHECK((*file->Seal())->bytes() == "weights!");
  CHECK(absl::IsFailedPrecondition(MemoryFile::Create(0).status()));
}

TEST_CASE("An offer that is not what it says is refused with its reason",
          "[weights]") {
  auto [map, offer] = Sealed("weights");
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
    map.reset();
    why = "No such file";
  }
  SECTION("a descriptor that is another file by now") {
    map.reset();
    const auto [next, other] = Sealed("another");
    offer.path = other.path;
    why = "is another file by now";
    CHECK_THAT(std::string(MemoryMap::Open(offer).status().message()),
               Contains(why));
    offer = other;
    ++offer.inode;
    map = next;
  }
  SECTION("a size that is another") {
    ++offer.bytes;
    why = "expected 8 bytes, found 7";
  }
  SECTION("not sealed") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 7) == 0);
    offer = OfferOf(fd, 7);
    why = "is not sealed";
  }
  SECTION("sealed against growing only") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 7) == 0);
    REQUIRE(::fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
    offer = OfferOf(fd, 7);
    why = "is not sealed";
  }
  SECTION("truncated and then sealed") {
    fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, 3) == 0);
    REQUIRE(::fcntl(fd, F_ADD_SEALS,
                    F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL) ==
            0);
    offer = OfferOf(fd, 7);
    why = "expected 7 bytes, found 3";
  }
  SECTION("a pipe") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    fd = ends[0];
    offer = OfferOf(fd, 7);
    ::close(ends[1]);
    why = "expected 7 bytes";
  }
  SECTION("an empty file") {
    offer.bytes = 0;
    why = "expected 0 bytes";
  }
  SECTION("another path") {
    offer.path =
        GENERATE(as<std::string>(), "/etc/passwd", "/proc/1/fd", "/proc/1/fd/",
                 "/proc/x/fd/1", "/proc//fd/1", "/proc/1/fd/1/x",
                 "/proc/1/fd/../environ", "", "proc/1/fd/1");
    why = "expected /proc/<pid>/fd/<number>";
  }
  const absl::Status status = MemoryMap::Open(offer).status();
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
