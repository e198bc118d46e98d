// SPDX-License-Identifier: Apache-2.0
#include "cli/processes.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "cli/ports.h"
#include "cli/run_directory.h"
#include "mpo/base/file.h"

namespace mpo::cli {
namespace {

// A directory that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "mpo_cli_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Waits for the end without taking it from Reap.
void AwaitEnd(int pid) {
  siginfo_t how;
  REQUIRE(waitid(P_PID, static_cast<id_t>(pid), &how, WEXITED | WNOWAIT) == 0);
}

}  // namespace

TEST_CASE("RealProcesses runs a program with environment and log", "[cli]") {
  const Folder folder;
  RealProcesses processes;
  const auto pid = processes.Start(
      {.name = "shell",
       .argv = {"/bin/sh", "-c", "echo $GREETING; echo oops >&2; exit 3"},
       .environment = {{"GREETING", "hello"}},
       .log = folder.path() / "logs" / "shell.log"});
  REQUIRE(pid.ok());
  AwaitEnd(*pid);
  CHECK(processes.Reap(*pid) == ProcessExit{.code = 3});
  CHECK(*ReadFile(folder.path() / "logs" / "shell.log") == "hello\noops\n");
  CHECK(LastLogLine(folder.path() / "logs" / "shell.log") == "oops");
  CHECK(LastLogLine(folder.path() / "nothing.log").empty());
}

TEST_CASE("RealProcesses reports the signal that ended a process", "[cli]") {
  const Folder folder;
  RealProcesses processes;
  const auto pid = processes.Start({.name = "cat",
                                    .argv = {"/bin/sh", "-c", "kill -9 $$"},
                                    .environment = {},
                                    .log = folder.path() / "cat.log"});
  REQUIRE(pid.ok());
  AwaitEnd(*pid);
  const auto how = processes.Reap(*pid);
  REQUIRE(how.has_value());
  CHECK(how->signal == SIGKILL);
  CHECK_THAT(ToString(*how), Catch::Contains("Killed"));
}

TEST_CASE("RealProcesses names a program that cannot be run", "[cli]") {
  const Folder folder;
  RealProcesses processes;
  const auto pid = processes.Start({.name = "ghost",
                                    .argv = {"/no/such/binary"},
                                    .environment = {},
                                    .log = folder.path() / "ghost.log"});
  CHECK(absl::IsNotFound(pid.status()));
  CHECK_THAT(std::string(pid.status().message()),
             Catch::Contains("/no/such/binary"));
  CHECK(absl::IsFailedPrecondition(processes
                                       .Start({.name = "x",
                                               .argv = {"/bin/true"},
                                               .environment = {},
                                               .log = "/proc/no/x.log"})
                                       .status()));
  CHECK(absl::IsInvalidArgument(
      processes.Start({.name = "x", .argv = {}, .environment = {}, .log = "x"})
          .status()));
}

TEST_CASE("FreeLoopbackAddresses gives different ports that are free",
          "[cli]") {
  const auto addresses = FreeLoopbackAddresses(6);
  REQUIRE(addresses.ok());
  REQUIRE(addresses->size() == 6);
  for (size_t i = 0; i < addresses->size(); ++i) {
    CHECK(CheckPortFree((*addresses)[i], "name another").ok());
    for (size_t j = 0; j < i; ++j) CHECK((*addresses)[i] != (*addresses)[j]);
  }
}

TEST_CASE("CheckPortFree finds a port in use and a malformed address",
          "[cli]") {
  // Debian's kernel lets nobody bind port 7 twice; take one of our own.
  const auto address = FreeLoopbackAddresses(1);
  REQUIRE(address.ok());
  CHECK(absl::IsInvalidArgument(CheckPortFree("nowhere", "name none")));
  CHECK(absl::IsInvalidArgument(CheckPortFree("127.0.0.1:99999", "name none")));
  CHECK(absl::IsInvalidArgument(CheckPortFree("example.com:80", "name none")));
}

TEST_CASE("RunDirectory is held by one owner at a time", "[cli]") {
  const Folder folder;
  const std::filesystem::path path = folder.path() / "runs" / "a";
  {
    const auto first = RunDirectory::Lock(path);
    REQUIRE(first.ok());
    const auto second = RunDirectory::Lock(path);
    CHECK(absl::IsAlreadyExists(second.status()));
    CHECK_THAT(std::string(second.status().message()),
               Catch::Contains("--dir"));
  }
  CHECK(RunDirectory::Lock(path).ok());
  CHECK(absl::IsFailedPrecondition(
      RunDirectory::Lock("/proc/nowhere/run").status()));
}

}  // namespace mpo::cli
