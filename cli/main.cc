// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/commands.h"
#include "cli/exit_code.h"

namespace {

// OpenMP reads its environment when it is loaded. Threads that spin while
// others need the cores slow decoding down several times, so a command that
// computes starts itself again with threads that sleep.
void SleepInsteadOfSpin(int argc, char** argv) {
  if (argc < 2 ||
      (std::strcmp(argv[1], "generate") != 0 &&
       std::strcmp(argv[1], "serve") != 0) ||
      std::getenv("OMP_WAIT_POLICY") != nullptr) {
    return;
  }
  setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/1);
  execv("/proc/self/exe", argv);
  // Slower, but it works as it is.
}

// What is wrong with the command line, and where to look it up.
int Refuse(const CLI::App& app, int argc, char** argv,
           const CLI::ParseError& error) {
  const auto named = [argv](const CLI::App* command) {
    return command->get_name() == argv[1];
  };
  if (argc > 1 && !app.get_subcommands(named).empty()) {
    std::fprintf(stderr, "mpo: %s; see mpo %s --help\n", error.what(), argv[1]);
  } else if (argc > 1 && argv[1][0] != '-') {
    std::fprintf(stderr, "mpo: no command \"%s\"; see mpo --help\n", argv[1]);
  } else if (argc > 1) {
    std::fprintf(stderr, "mpo: unknown option \"%s\"; see mpo --help\n",
                 argv[1]);
  } else {
    std::fprintf(stderr, "mpo: %s; see mpo --help\n", error.what());
  }
  return mpo::cli::kExitBadInput;
}

}  // namespace

int main(int argc, char** argv) {
  SleepInsteadOfSpin(argc, argv);
  CLI::App app(
      "MPO Mesh: trains a language model with a reward rubric that is refined "
      "while it trains",
      "mpo");
  app.require_subcommand(1);
  app.set_version_flag("--version", "mpo " MPO_VERSION);
  app.set_help_all_flag("--help-all", "Help of all commands");
  mpo::cli::Action action;
  mpo::cli::AddTrainCommand(app, action);
  mpo::cli::AddStatusCommands(app, action);
  mpo::cli::AddRubricCommand(app, action);
  mpo::cli::AddReplayCommand(app, action);
  mpo::cli::AddReportCommand(app, action);
  mpo::cli::AddDoctorCommand(app, action);
  mpo::cli::AddExportCommand(app, action);
  mpo::cli::AddGenerateCommand(app, action);
  mpo::cli::AddServeCommand(app, action);
  mpo::cli::AddTokenizeCommand(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return Refuse(app, argc, argv, error);
  }
  return action ? action() : mpo::cli::kExitBadInput;
}
