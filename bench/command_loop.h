// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace mpo::bench {

// What the benchmark programs share: a script starts one, and asks it for one
// timed piece of work after the other, in alternation with its peer.

inline double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

inline absl::Status UnknownCommand(const std::string& command) {
  return absl::InvalidArgumentError(
      absl::StrCat("unknown command '", command, "'"));
}

// Every line on stdin is a command; answer(line), an
// absl::StatusOr<nlohmann::json>, is written as one line to stdout. Ends with
// the input or with the first error.
template <typename Answer>
absl::Status ServeCommands(const Answer& answer) {
  std::string line;
  while (std::getline(std::cin, line)) {
    const absl::StatusOr<nlohmann::json> json = answer(line);
    if (!json.ok()) return json.status();
    std::cout << json->dump() << std::endl;
  }
  return absl::OkStatus();
}

// Parses the arguments and calls run(); the exit status, after a message on
// stderr where there was an error.
template <typename Run>
int Main(CLI::App& app, int argc, char** argv, const Run& run) {
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = run();
  if (!status.ok()) std::cerr << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}

}  // namespace mpo::bench
