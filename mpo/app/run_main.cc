// SPDX-License-Identifier: Apache-2.0
#include "mpo/app/run_main.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <vector>

#include "mpo/config/run_config.h"
#include "mpo/logging/log.h"
#include "mpo/rpc/termination.h"

namespace mpo::app {
namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
      return kBadInput;
    default:
      return kFailed;
  }
}

}  // namespace

int RunMain(int argc, char** argv, const std::string& default_name,
            const std::function<absl::Status(const ServiceOptions&)>& run,
            const std::vector<ServiceFlag>& flags) {
  // Before any library starts a thread: threads inherit the mask.
  rpc::BlockTerminationSignals();
  ServiceOptions options;
  options.name = default_name;
  std::string file;
  std::vector<std::string> overrides;
  CLI::App app("A service of the MPO mesh", default_name);
  app.add_option("--config", file, "YAML file of the run")->required();
  app.add_option("--name", options.name, "Name of this process");
  app.add_option("--listen", options.listen, "host:port of the gRPC server")
      ->required();
  app.add_option("--metrics-listen", options.metrics_listen,
                 "host:port of the Prometheus text; left out: none");
  app.add_option("--set", overrides, "section.key=value in place of the file's")
      ->allow_extra_args(false);
  for (const ServiceFlag& flag : flags) {
    app.add_option(flag.name, *flag.value, flag.help);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    std::fprintf(stderr, "%s: %s\n", default_name.c_str(), error.what());
    return kBadInput;
  }
  const auto loaded = config::LoadRunConfig(file, overrides);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n",
                 std::string(loaded.status().message()).c_str());
    return kBadInput;
  }
  options.config = loaded->config;
  options.config_sha256 = config::Sha256Of(loaded->config);
  logging::Start(options.name);
  logging::Info("starting", {{"config", file},
                             {"config_sha256", options.config_sha256},
                             {"listen", options.listen}});
  const absl::Status status = run(options);
  if (status.ok()) {
    logging::Info("stopped");
  } else {
    logging::Error("failed", {{"status", status}});
  }
  return ExitCodeOf(status);
}

}  // namespace mpo::app
