// SPDX-License-Identifier: Apache-2.0
#include "mpo/rubric/validate.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>

#include "absl/strings/str_cat.h"

namespace mpo::rubric {
namespace {

constexpr int kLargestScore = 1'000'000;

bool IsId(const std::string& id) {
  return !id.empty() && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

bool IsScope(const std::string& scope) {
  const auto has_prefix = [&](const char* prefix) {
    return scope.rfind(prefix, 0) == 0 &&
           scope.size() > std::string(prefix).size();
  };
  return scope == "global" || has_prefix("cluster:") || has_prefix("instance:");
}

void ValidateCheck(const Criterion& criterion, const std::string& of,
                   std::vector<std::string>& problems) {
  if (!criterion.check.has_value()) {
    if (criterion.executor == Executor::kProgram) {
      problems.push_back(of + "executor program needs a check");
    }
    return;
  }
  const Check& check = *criterion.check;
  if (check.name.empty()) problems.push_back(of + "check has no name");
  if (!std::isfinite(check.zero_at) || !std::isfinite(check.saturate_at)) {
    problems.push_back(of + "zero_at and saturate_at must be finite");
  } else if (check.zero_at == check.saturate_at) {
    problems.push_back(absl::StrCat(
        of, "zero_at and saturate_at must differ, both are ", check.zero_at));
  }
}

void ValidateCriterion(const Criterion& criterion, const std::string& of,
                       std::vector<std::string>& problems) {
  if (criterion.text.empty()) problems.push_back(of + "text is empty");
  if (criterion.minimum >= criterion.maximum) {
    problems.push_back(absl::StrCat(of, "minimum must be below maximum, got ",
                                    criterion.minimum, " and ",
                                    criterion.maximum));
  }
  if (std::abs(static_cast<double>(criterion.minimum)) > kLargestScore ||
      std::abs(static_cast<double>(criterion.maximum)) > kLargestScore) {
    problems.push_back(
        absl::StrCat(of, "scores must be within ", kLargestScore));
  }
  if (!std::isfinite(criterion.weight) || criterion.weight <= 0) {
    problems.push_back(absl::StrCat(
        of, "weight must be finite and above 0, got ", criterion.weight));
  }
  for (const auto& [level, text] : criterion.levels) {
    if (level < criterion.minimum || level > criterion.maximum) {
      problems.push_back(absl::StrCat(of, "level ", level, " is outside ",
                                      criterion.minimum, "..",
                                      criterion.maximum));
    }
  }
  ValidateCheck(criterion, of, problems);
}

}  // namespace

std::vector<std::string> Validate(const Rubric& rubric) {
  std::vector<std::string> problems;
  if (rubric.id.empty()) problems.push_back("rubric: id is empty");
  if (!IsScope(rubric.scope)) {
    problems.push_back(
        absl::StrCat("rubric: scope must be global, cluster:<id> or "
                     "instance:<prompt id>, got \"",
                     rubric.scope, "\""));
  }
  if (rubric.criteria.empty()) {
    problems.push_back("rubric: expected at least one criterion, got none");
  }
  std::set<std::string> ids;
  bool scores = rubric.criteria.empty();
  for (size_t i = 0; i < rubric.criteria.size(); ++i) {
    const Criterion& criterion = rubric.criteria[i];
    std::string of = absl::StrCat("criterion ", criterion.id, ": ");
    if (!IsId(criterion.id)) {
      of = absl::StrCat("criterion ", i + 1, " (\"", criterion.id, "\"): ");
      problems.push_back(of + "id must be of a-z, 0-9 and _");
    } else if (!ids.insert(criterion.id).second) {
      problems.push_back(of + "id is used twice");
    }
    ValidateCriterion(criterion, of, problems);
    scores = scores || criterion.mode == CriterionMode::kScore;
  }
  if (!scores) problems.push_back("rubric: no criterion of mode score");
  return problems;
}

}  // namespace mpo::rubric
