// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/step_result_json.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace mpo::policy_learner {

using Json = nlohmann::json;

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

}  // namespace mpo::policy_learner
