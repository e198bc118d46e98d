// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/step_result_json.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::policy_learner {

using Json = nlohmann::json;

namespace {

constexpr char kName[] = "step.json";

}  // namespace

std::string StepResultJson(const StepResult& result) {
  const Json json = {{"metrics", result.metrics}, {"seconds", result.seconds}};
  return json.dump(2) + "\n";
}

absl::StatusOr<StepResult> ParseStepResult(const std::string& text,
                                           const std::string& source) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  StepResult result;
  for (const char* part : {"metrics", "seconds"}) {
    if (!json.is_object() || !json.contains(part) || !json[part].is_object()) {
      return absl::DataLossError(
          absl::StrCat(source, ": object '", part, "' is missing"));
    }
    for (const auto& [name, value] : json[part].items()) {
      if (!value.is_number() && !value.is_null()) {
        return absl::DataLossError(
            absl::StrCat(source, ": '", name, "' is not a number"));
      }
      (part == std::string("metrics") ? result.metrics : result.seconds)[name] =
          value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                          : value.get<double>();
    }
  }
  return result;
}

absl::Status WriteStepResult(const StepResult& result,
                             const std::filesystem::path& checkpoint) {
  return WriteFileAtomically(checkpoint / kName, StepResultJson(result));
}

absl::StatusOr<StepResult> ReadStepResult(
    const std::filesystem::path& checkpoint) {
  const std::filesystem::path path = checkpoint / kName;
  MPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 1 << 20));
  return ParseStepResult(text, path.string());
}

}  // namespace mpo::policy_learner
