// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mpo::cli {

// What the parsed command line asks for; returns the exit code.
using Action = std::function<int()>;

// Each adds one subcommand to `app`. When it is parsed, `action` is set to
// what it does. Both must outlive the parse.
void AddTrainCommand(CLI::App& app, Action& action);
void AddStatusCommands(CLI::App& app,
                       Action& action);  // And pause, resume, stop.
void AddRubricCommand(CLI::App& app, Action& action);
void AddExportCommand(CLI::App& app, Action& action);
void AddGenerateCommand(CLI::App& app, Action& action);
void AddServeCommand(CLI::App& app, Action& action);
void AddTokenizeCommand(CLI::App& app, Action& action);
void AddReplayCommand(CLI::App& app, Action& action);
void AddReportCommand(CLI::App& app, Action& action);
void AddDoctorCommand(CLI::App& app, Action& action);

}  // namespace mpo::cli
