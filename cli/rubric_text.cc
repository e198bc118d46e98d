// SPDX-License-Identifier: Apache-2.0
#include "cli/rubric_text.h"

#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace mpo::cli {
namespace {

using orchestrator::RubricRecord;
using Json = nlohmann::ordered_json;

// Fields of a criterion as people read them, in order.
std::vector<std::pair<std::string, std::string>> Fields(
    const Criterion& criterion) {
  std::vector<std::pair<std::string, std::string>> fields = {
      {"title", criterion.title},
      {"text", criterion.text},
      {"range", absl::StrCat(criterion.minimum, " to ", criterion.maximum)},
      {"weight", absl::StrFormat("%g", criterion.weight)},
      {"polarity", criterion.polarity == Polarity::kAward ? "award" : "deduct"},
      {"tier", absl::StrCat(static_cast<int>(criterion.tier))},
      {"mode", absl::StrCat(static_cast<int>(criterion.mode))},
      {"check", "none"},
      {"levels", ""}};
  if (criterion.check.has_value()) {
    fields[7].second =
        absl::StrFormat("%s from %g to %g", criterion.check->name,
                        criterion.check->zero_at, criterion.check->saturate_at);
  }
  for (const auto& [score, text] : criterion.levels) {
    absl::StrAppend(&fields[8].second, score, ": ", text, "; ");
  }
  return fields;
}

}  // namespace

std::string DiffText(const Rubric& from, const Rubric& to) {
  std::map<std::string, const Criterion*> before;
  for (const Criterion& criterion : from.criteria) {
    before[criterion.id] = &criterion;
  }
  std::string diff;
  for (const Criterion& criterion : to.criteria) {
    const auto found = before.find(criterion.id);
    const auto now = Fields(criterion);
    if (found == before.end()) {
      diff += absl::StrFormat("+ %s: %s (%s, weight %s, check %s)\n",
                              criterion.id, criterion.text, now[2].second,
                              now[3].second, now[7].second);
      continue;
    }
    const auto old = Fields(*found->second);
    for (size_t i = 0; i < now.size(); ++i) {
      if (old[i].second == now[i].second) continue;
      diff += absl::StrFormat("~ %s.%s: %s -> %s\n", criterion.id, now[i].first,
                              old[i].second, now[i].second);
    }
    before.erase(found);
  }
  for (const Criterion& criterion : from.criteria) {
    if (before.count(criterion.id) > 0) {
      diff += absl::StrFormat("- %s: %s\n", criterion.id, criterion.text);
    }
  }
  return diff;
}

std::string ListLine(const RubricRecord& rubric) {
  std::string line = absl::StrFormat(
      "%3s  %-8s %-16s %s  %s",
      rubric.version.has_value() ? absl::StrCat(*rubric.version) : "-",
      orchestrator::Name(rubric.state),
      rubric.first_step > 0 ? absl::StrCat("from step ", rubric.first_step)
                            : "never judged",
      rubric.sha256.substr(0, 12), rubric.origin);
  if (!rubric.reasons.empty()) {
    line += ": " + absl::StrJoin(rubric.reasons, "; ");
  }
  return line;
}

std::string ListJson(const std::vector<RubricRecord>& rubrics) {
  Json list = Json::array();
  for (const RubricRecord& rubric : rubrics) {
    list.push_back(
        {{"version",
          rubric.version.has_value() ? Json(*rubric.version) : Json(nullptr)},
         {"sha256", rubric.sha256},
         {"parent", rubric.parent},
         {"state", orchestrator::Name(rubric.state)},
         {"origin", rubric.origin},
         {"first_step", rubric.first_step},
         {"reasons", rubric.reasons}});
  }
  return list.dump(2, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<RubricRecord> Pick(const std::vector<RubricRecord>& rubrics,
                                  const std::string& name) {
  int64_t version = 0;
  const bool number = name.size() < 4 && absl::SimpleAtoi(name, &version);
  std::vector<RubricRecord> found;
  std::vector<std::string> known;
  for (const RubricRecord& rubric : rubrics) {
    known.push_back(rubric.version.has_value() ? absl::StrCat(*rubric.version)
                                               : rubric.sha256.substr(0, 12));
    const bool meant =
        number ? rubric.version == version
               : name.size() >= 4 && rubric.sha256.rfind(name, 0) == 0;
    if (meant) found.push_back(rubric);
  }
  if (found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no rubric \"", name,
                     "\"; expected a version or the first 4 or more "
                     "digits of a SHA-256, there are: ",
                     absl::StrJoin(known, ", ")));
  }
  if (found.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name, "\" begins the SHA-256 of ", found.size(),
                     " rubrics; give more digits"));
  }
  return found.front();
}

}  // namespace mpo::cli
