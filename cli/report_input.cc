// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/report_page.h"
#include "mpo/base/status_macros.h"
#include "mpo/rubric/rubric_yaml.h"

namespace mpo::cli {
namespace {

using orchestrator::SampleRecord;

// Prompts shown.
constexpr size_t kPairs = 4;

// Pairs samples of the same prompt, in plan order of `before`.
std::vector<SamplePair> SamePrompt(const std::vector<SampleRecord>& before,
                                   const std::vector<SampleRecord>& after) {
  std::vector<SamplePair> pairs;
  std::set<std::string> taken;
  for (const SampleRecord& first : before) {
    if (pairs.size() == kPairs) break;
    if (!first.result || !taken.insert(first.sample.prompt.id).second) continue;
    const auto match =
        std::find_if(after.begin(), after.end(), [&](const auto& second) {
          return second.result &&
                 second.sample.prompt.id == first.sample.prompt.id;
        });
    if (match != after.end()) pairs.push_back({first, *match});
  }
  return pairs;
}

absl::Status PairEvaluations(const std::filesystem::path& directory,
                             ReportInput& input) {
  const auto& evaluations = input.snapshot.evaluations;
  std::vector<int64_t> complete;
  for (const auto& [step, means] : evaluations) {
    if (!means.empty()) complete.push_back(step);
  }
  if (complete.size() < 2) return absl::OkStatus();
  MPO_ASSIGN_OR_RETURN(
      const auto before,
      ReadSamples(directory, WorkKind::kEvaluation, complete.front()));
  MPO_ASSIGN_OR_RETURN(
      const auto after,
      ReadSamples(directory, WorkKind::kEvaluation, complete.back()));
  input.pairs = SamePrompt(before, after);
  input.before_label = absl::StrCat("after step ", complete.front());
  if (complete.front() == 0) input.before_label = "untrained policy";
  input.after_label = absl::StrCat("after step ", complete.back());
  input.pairs_note =
      "The first held-out prompts in the order of the data file, not chosen "
      "by their scores.";
  return absl::OkStatus();
}

// Without held-out evaluations: the first prompts of the first and of the last
// step, which differ.
absl::Status PairSteps(const std::filesystem::path& directory,
                       ReportInput& input) {
  int64_t first = 0;
  int64_t last = 0;
  for (const orchestrator::StepRecord& step : input.snapshot.steps) {
    if (step.state != orchestrator::StepState::kCommitted) continue;
    if (first == 0) first = step.step;
    last = step.step;
  }
  if (last <= first) return absl::OkStatus();
  MPO_ASSIGN_OR_RETURN(const auto before,
                       ReadSamples(directory, WorkKind::kTraining, first));
  MPO_ASSIGN_OR_RETURN(const auto after,
                       ReadSamples(directory, WorkKind::kTraining, last));
  for (size_t i = 0;
       i < before.size() && i < after.size() && input.pairs.size() < kPairs;
       ++i) {
    if (before[i].sample.replica == 0 && after[i].sample.replica == 0) {
      input.pairs.push_back({before[i], after[i]});
    }
  }
  input.before_label = absl::StrCat("step ", first);
  input.after_label = absl::StrCat("step ", last);
  input.pairs_note =
      "The first prompts of the first and of the last step in plan order, not "
      "chosen by their scores; there were no held-out evaluations.";
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReportInput> PrepareReport(
    const std::filesystem::path& directory) {
  ReportInput input;
  MPO_ASSIGN_OR_RETURN(input.snapshot, ReadRun(directory));
  input.summary = Summarise(input.snapshot);
  for (const auto& record : input.snapshot.rubrics) {
    MPO_ASSIGN_OR_RETURN(Rubric parsed, rubric::ParseYaml(record.yaml));
    input.rubrics.emplace(record.sha256, std::move(parsed));
  }
  MPO_RETURN_IF_ERROR(PairEvaluations(directory, input));
  if (input.pairs.empty()) MPO_RETURN_IF_ERROR(PairSteps(directory, input));
  return input;
}

}  // namespace mpo::cli
