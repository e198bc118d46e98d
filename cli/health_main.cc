// SPDX-License-Identifier: Apache-2.0
// mpo_health HOST:PORT: asks a server of the mesh whether it serves. Apart from
// mpo, which loads LibTorch, because a container asks every few seconds.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "cli/exit_code.h"
#include "mpo/rpc/channel.h"

int main(int argc, char** argv) {
  std::string address;
  double timeout = 3;
  CLI::App app("Asks the gRPC health service of a server of the mesh",
               "mpo_health");
  app.add_option("address", address, "HOST:PORT")->required();
  app.add_option("--timeout", timeout, "Seconds to wait for SERVING")
      ->check(CLI::Range(0.01, 600.0));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    std::fprintf(stderr, "mpo_health: %s; see mpo_health --help\n",
                 error.what());
    return mpo::cli::kExitBadInput;
  }
  const absl::Status status =
      mpo::rpc::WaitUntilHealthy(address, {.timeout = absl::Seconds(timeout)});
  if (!status.ok()) {
    std::fprintf(stderr, "mpo_health: %s does not serve within %g s: %s\n",
                 address.c_str(), timeout,
                 std::string(status.message()).c_str());
    return mpo::cli::kExitFailed;
  }
  std::printf("serving\n");
  return mpo::cli::kExitOk;
}
