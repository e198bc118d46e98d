// SPDX-License-Identifier: Apache-2.0
// Runs the real mpo_health against real servers.
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/exit_code.h"
#include "mpo/rpc/server_host.h"

namespace mpo::cli {
namespace {

struct Ran {
  int code = -1;
  std::string output;  // stdout and stderr.
};

Ran Health(const std::string& arguments) {
  const std::string command =
      absl::StrCat(MPO_BINARY_DIR "/bin/mpo_health ", arguments, " 2>&1");
  Ran ran;
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) {
    ran.output += buffer;
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) ran.code = WEXITSTATUS(status);
  return ran;
}

}  // namespace

TEST_CASE("mpo_health ends with 0 where a server serves") {
  const auto host = rpc::ServerHost::Start({}, {});
  REQUIRE(host.ok());
  const Ran ran = Health(absl::StrCat("127.0.0.1:", (*host)->port()));
  CHECK(ran.code == kExitOk);
  CHECK(ran.output == "serving\n");
}

TEST_CASE("mpo_health ends with 1 and the address where nobody serves") {
  const auto host = rpc::ServerHost::Start({}, {});
  REQUIRE(host.ok());
  const std::string address = absl::StrCat("127.0.0.1:", (*host)->port());
  (*host)->Stop();
  const Ran ran = Health(address + " --timeout 0.2");
  CHECK(ran.code == kExitFailed);
  CHECK_THAT(ran.output, Catch::Contains(address + " does not serve"));
}

TEST_CASE("mpo_health ends with 2 on a bad command line") {
  CHECK(Health("").code == kExitBadInput);
  CHECK(Health("127.0.0.1:1 --timeout never").code == kExitBadInput);
  CHECK(Health("127.0.0.1:1 --timeout 0").code == kExitBadInput);
  CHECK_THAT(Health("").output, Catch::Contains("address is required"));
}

}  // namespace mpo::cli
