// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/report_page.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {
namespace {

absl::Status WriteReport(const std::string& directory, std::string output,
                         bool json) {
  MPO_ASSIGN_OR_RETURN(const ReportInput input, PrepareReport(directory));
  if (output.empty()) output = directory + "/report.html";
  MPO_RETURN_IF_ERROR(WriteFileAtomically(output, ReportPage(input)));
  if (json) {
    std::printf("%s\n", ToJson(input.summary).c_str());
  } else {
    std::printf("%sreport: %s\n", ToText(input.summary).c_str(),
                output.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddReportCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "report", "Write a run's report as one HTML page without network");
  auto directory = std::make_shared<std::string>();
  auto output = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("run", *directory, "Run directory")->required();
  command->add_option("--output", *output, "Instead of RUN/report.html");
  command->add_flag("--json", *json, "Print the summary as JSON");
  command->callback([=, &action] {
    action = [=] { return Report(WriteReport(*directory, *output, *json)); };
  });
}

}  // namespace mpo::cli
