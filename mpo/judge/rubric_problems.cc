// SPDX-License-Identifier: Apache-2.0
#include "mpo/judge/rubric_problems.h"

#include "absl/strings/str_cat.h"
#include "mpo/judge/measures.h"
#include "mpo/rubric/aggregate.h"
#include "mpo/rubric/validate.h"

namespace mpo::judge {

std::vector<std::string> RubricProblems(const Rubric& rubric, bool embedded) {
  std::vector<std::string> problems = rubric::Validate(rubric);
  if (const absl::Status status = rubric::CheckSupported(rubric);
      !status.ok()) {
    problems.emplace_back(status.message());
  }
  for (const Criterion& criterion : rubric.criteria) {
    const bool measured = embedded || criterion.executor == Executor::kProgram;
    if (measured && !criterion.check.has_value()) {
      problems.push_back(absl::StrCat(
          "criterion ", criterion.id,
          ": expected a check, only a judge model can read it as it is"));
    } else if (measured && !IsMeasure(criterion.check->name)) {
      problems.push_back(absl::StrCat("criterion ", criterion.id,
                                      ": no measure ", criterion.check->name,
                                      " in the catalogue"));
    }
  }
  return problems;
}

}  // namespace mpo::judge
