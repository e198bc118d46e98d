// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <latch>
#include <thread>
#include <vector>

#include "mpo/base/bounded_queue.h"
#include "mpo/base/clock.h"
#include "mpo/base/descriptor.h"
#include "mpo/base/digest.h"
#include "mpo/base/file.h"
#include "mpo/base/parallel.h"
#include "mpo/base/status_macros.h"

namespace mpo {
namespace {

namespace fs = std::filesystem;

fs::path FreshDirectory() {
  fs::path path =
      fs::temp_directory_path() / ("mpo_base_test_" + std::to_string(getpid()));
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

absl::StatusOr<int> Half(int n) {
  if (n % 2 != 0) return absl::InvalidArgumentError("odd");
  return n / 2;
}

absl::StatusOr<int> Quarter(int n) {
  MPO_ASSIGN_OR_RETURN(const int half, Half(n));
  MPO_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

}  // namespace

TEST_CASE("BoundedQueue::Pop returns nullopt once closed and drained") {
  BoundedQueue<int> queue(2);
  REQUIRE(queue.Push(1));
  REQUIRE(queue.TryPush(2));
  CHECK_FALSE(queue.TryPush(3));
  queue.Close();
  CHECK_FALSE(queue.Push(4));
  CHECK(queue.Pop() == 1);
  CHECK(queue.Pop() == 2);
  CHECK(queue.Pop() == std::nullopt);
}

TEST_CASE("BoundedQueue::Push waits for room") {
  BoundedQueue<int> queue(1);
  REQUIRE(queue.Push(1));
  std::jthread producer([&] { queue.Push(2); });
  CHECK(queue.Pop() == 1);
  CHECK(queue.Pop() == 2);
}

TEST_CASE("FakeClock stands still until advanced") {
  FakeClock clock;
  const absl::Time before = clock.Steady();
  CHECK(clock.Steady() == before);
  clock.Advance(absl::Seconds(3));
  CHECK(clock.Steady() - before == absl::Seconds(3));
}

TEST_CASE("The real clock's steady time never runs back") {
  const absl::Time first = Clock::Real().Steady();
  CHECK(Clock::Real().Steady() >= first);
}

TEST_CASE("Sha256Hex gives the digest FIPS 180-4 lists for abc") {
  CHECK(Sha256Hex("abc") ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("Crc32c gives the check value RFC 3720 lists") {
  CHECK(Crc32c(std::string(32, '\0')) == 0x8a9136aaU);
  CHECK(Crc32c("123456789") == 0xe3069283U);
}

TEST_CASE("WriteFileAtomically replaces the whole file") {
  const fs::path path = FreshDirectory() / "file";
  REQUIRE(WriteFileAtomically(path, "first, longer").ok());
  REQUIRE(WriteFileAtomically(path, "second").ok());
  CHECK(ReadFile(path).value() == "second");
  CHECK(std::distance(fs::directory_iterator(path.parent_path()),
                      fs::directory_iterator()) == 1);
}

TEST_CASE("WritePiecesAtomically joins the pieces, or leaves the old file") {
  const fs::path path = FreshDirectory() / "file";
  const auto write = [&](const absl::Status& end) {
    return WritePiecesAtomically(
        path, [&](const AppendBytes& append) -> absl::Status {
          MPO_RETURN_IF_ERROR(append("one "));
          MPO_RETURN_IF_ERROR(append("two"));
          return end;
        });
  };
  REQUIRE(write(absl::OkStatus()).ok());
  CHECK(ReadFile(path).value() == "one two");
  REQUIRE(WriteFileAtomically(path, "old").ok());
  CHECK(absl::IsDataLoss(write(absl::DataLossError("bad"))));
  CHECK(ReadFile(path).value() == "old");
  CHECK(std::distance(fs::directory_iterator(path.parent_path()),
                      fs::directory_iterator()) == 1);
}

TEST_CASE("ReadFile names the path it could not open") {
  const absl::Status status = ReadFile("/no/such/file").status();
  CHECK(absl::IsNotFound(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("/no/such/file"));
}

TEST_CASE("ReadFile refuses a file over the limit") {
  const fs::path path = FreshDirectory() / "file";
  REQUIRE(WriteFileAtomically(path, "12345").ok());
  CHECK(absl::IsResourceExhausted(ReadFile(path, 4).status()));
}

TEST_CASE("WriteFileAtomically into a missing directory changes nothing") {
  CHECK(absl::IsNotFound(WriteFileAtomically("/no/such/dir/file", "x")));
}

TEST_CASE("FreeBytes asks the nearest directory that exists") {
  CHECK(FreeBytes("/tmp/not/yet/made").value() > 0);
}

TEST_CASE(
    "ParallelFor does each piece of work once, on any number of threads") {
  for (const int threads : {0, 1, 2, 7}) {
    std::vector<std::atomic<int>> done(5);
    ParallelFor(done.size(), threads, [&](size_t i) { ++done[i]; });
    for (const auto& count : done) CHECK(count == 1);
  }
  ParallelFor(0, 4, [](size_t) { FAIL("there is nothing to do"); });
}

TEST_CASE("ParallelFor works on several threads at a time") {
  // Neither can end before both have begun.
  std::latch both(2);
  ParallelFor(2, 2, [&](size_t) { both.arrive_and_wait(); });
  CHECK(both.try_wait());
}

TEST_CASE("A descriptor of the wrong kind is named", "[base]") {
  const int directory = open("/", O_RDONLY | O_DIRECTORY);
  REQUIRE(directory >= 0);
  const absl::Status read = ReadDescriptor(directory, "input").status();
  CHECK(absl::IsFailedPrecondition(read));
  CHECK_THAT(std::string(read.message()), Catch::Contains("cannot read input"));
  CHECK(absl::IsFailedPrecondition(WriteDescriptor(directory, "output", "x")));
  close(directory);
}

TEST_CASE("MPO_ASSIGN_OR_RETURN hands the first error up") {
  CHECK(Quarter(8).value() == 2);
  CHECK(absl::IsInvalidArgument(Quarter(6).status()));
}

}  // namespace mpo
