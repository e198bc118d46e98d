// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/orchestrator_link.h"
#include "cli/rubric_text.h"
#include "cli/run_snapshot.h"
#include "cli/target.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/rubric/rubric_yaml.h"

namespace mpo::cli {
namespace {

struct RubricOptions {
  Target target;
  std::string first;   // Version, SHA-256 or file.
  std::string second;  // The same, of `diff`.
  std::string output;
  std::string reason;
  bool json = false;
};

using Run = std::function<absl::Status(const RubricOptions&)>;

absl::StatusOr<std::vector<orchestrator::RubricRecord>> Rubrics(
    const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const RunSnapshot snapshot, ReadRun(options.target.run));
  return snapshot.rubrics;
}

absl::Status List(const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const auto rubrics, Rubrics(options));
  if (options.json) {
    std::printf("%s\n", ListJson(rubrics).c_str());
    return absl::OkStatus();
  }
  for (const auto& rubric : rubrics) {
    std::printf("%s\n", ListLine(rubric).c_str());
  }
  return absl::OkStatus();
}

absl::Status Show(const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const auto rubrics, Rubrics(options));
  MPO_ASSIGN_OR_RETURN(const auto rubric, Pick(rubrics, options.first));
  if (options.output.empty()) {
    std::printf("%s", rubric.yaml.c_str());
    return absl::OkStatus();
  }
  return WriteFileAtomically(options.output, rubric.yaml);
}

absl::Status Diff(const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const auto rubrics, Rubrics(options));
  MPO_ASSIGN_OR_RETURN(const auto first, Pick(rubrics, options.first));
  MPO_ASSIGN_OR_RETURN(const auto second, Pick(rubrics, options.second));
  MPO_ASSIGN_OR_RETURN(const Rubric from, rubric::ParseYaml(first.yaml));
  MPO_ASSIGN_OR_RETURN(const Rubric to, rubric::ParseYaml(second.yaml));
  std::printf("%s", DiffText(from, to).c_str());
  return absl::OkStatus();
}

absl::Status Propose(const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const std::string yaml, ReadFile(options.first));
  const absl::StatusOr<Rubric> rubric = rubric::ParseYaml(yaml);
  if (!rubric.ok()) {
    return absl::Status(rubric.status().code(),
                        absl::StrCat(options.first, ": ",
                                     std::string(rubric.status().message())));
  }
  MPO_ASSIGN_OR_RETURN(const std::string address, AddressOf(options.target));
  MPO_ASSIGN_OR_RETURN(const std::string sha256,
                       ProposeRubric(address, *rubric, options.reason));
  std::printf("%s\n", sha256.c_str());
  return absl::OkStatus();
}

absl::Status Activate(const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const std::string address, AddressOf(options.target));
  std::string sha256 = options.first;
  if (!options.target.run.empty()) {
    MPO_ASSIGN_OR_RETURN(const auto rubrics, Rubrics(options));
    MPO_ASSIGN_OR_RETURN(const auto rubric, Pick(rubrics, options.first));
    sha256 = rubric.sha256;
  } else if (sha256.size() != 64) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected the 64 digits of a SHA-256 with --orchestrator, got \"",
        sha256, "\"; versions are known with --run"));
  }
  MPO_RETURN_IF_ERROR(ActivateRubric(address, sha256));
  std::printf("active from the next planned step on: %s\n", sha256.c_str());
  return absl::OkStatus();
}

absl::Status Rollback(const RubricOptions& options) {
  MPO_ASSIGN_OR_RETURN(const std::string address, AddressOf(options.target));
  MPO_ASSIGN_OR_RETURN(const std::string sha256, RollbackRubric(address));
  std::printf("active from the next planned step on: %s\n", sha256.c_str());
  return absl::OkStatus();
}

// A subcommand that reads the ledger, or one that calls the orchestrator.
CLI::App* AddSub(CLI::App& rubric, Action& action, const char* name,
                 const char* description, bool offline, const Run& run,
                 const std::shared_ptr<RubricOptions>& options) {
  CLI::App* command = rubric.add_subcommand(name, description);
  if (offline) {
    command->add_option("--run", options->target.run, "Run directory")
        ->required();
  } else {
    AddTarget(*command, options->target);
  }
  command->callback([options, run, &action] {
    action = [options, run] { return Report(run(*options)); };
  });
  return command;
}

}  // namespace

void AddRubricCommand(CLI::App& app, Action& action) {
  CLI::App* rubric =
      app.add_subcommand("rubric", "The rubric of a run and its lineage");
  rubric->require_subcommand(1);
  auto options = std::make_shared<RubricOptions>();
  const char* which = "Version or first digits of the SHA-256";
  AddSub(*rubric, action, "list", "Every version and why it came", true, List,
         options)
      ->add_flag("--json", options->json, "For machines");
  AddSub(*rubric, action, "show", "Print one as YAML", true, Show, options)
      ->add_option("rubric", options->first, which)
      ->required();
  CLI::App* diff = AddSub(*rubric, action, "diff", "What changed between two",
                          true, Diff, options);
  diff->add_option("from", options->first, which)->required();
  diff->add_option("to", options->second, which)->required();
  CLI::App* exported = AddSub(*rubric, action, "export",
                              "Write one to a YAML file", true, Show, options);
  exported->add_option("rubric", options->first, which)->required();
  exported->add_option("--output", options->output, "File")->required();
  CLI::App* propose =
      AddSub(*rubric, action, "propose", "Store a YAML file as a draft", false,
             Propose, options);
  propose->add_option("file", options->first, "YAML file")->required();
  propose->add_option("--reason", options->reason, "Why, for the record")
      ->required();
  AddSub(*rubric, action, "activate", "Judge with it from the next step on",
         false, Activate, options)
      ->add_option("rubric", options->first, which)
      ->required();
  AddSub(*rubric, action, "rollback", "Go back to the active one's parent",
         false, Rollback, options);
}

}  // namespace mpo::cli
