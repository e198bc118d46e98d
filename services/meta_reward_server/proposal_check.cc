// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/proposal_check.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/rubric/validate.h"

namespace mpo::meta_reward_server {
namespace {

constexpr double kNearDuplicate = 0.8;

std::set<std::string> WordsOf(const Criterion& criterion) {
  std::set<std::string> words;
  std::string word;
  for (const char c : criterion.title + " " + criterion.text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) || (c & 0x80) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      words.insert(std::move(word));
      word.clear();
    }
  }
  return words;
}

double Overlap(const std::set<std::string>& a, const std::set<std::string>& b) {
  size_t shared = 0;
  for (const std::string& word : a) shared += b.count(word);
  const size_t all = a.size() + b.size() - shared;
  return all == 0 ? 1.0
                  : static_cast<double>(shared) / static_cast<double>(all);
}

const Criterion* Find(const Rubric& rubric, const std::string& id) {
  for (const Criterion& criterion : rubric.criteria) {
    if (criterion.id == id) return &criterion;
  }
  return nullptr;
}

std::string Support(const std::vector<Rubric>& refinements,
                    const std::string& id) {
  const auto count = std::count_if(
      refinements.begin(), refinements.end(),
      [&](const Rubric& rubric) { return Find(rubric, id) != nullptr; });
  return absl::StrCat("in ", count, " of ", refinements.size(), " refinements");
}

}  // namespace

std::vector<std::string> ProposalProblems(const Rubric& rubric,
                                          const PromptLimits& limits) {
  std::vector<std::string> problems = rubric::Validate(rubric);
  if (rubric.criteria.size() > static_cast<size_t>(limits.max_criteria)) {
    problems.push_back(absl::StrCat("expected at most ", limits.max_criteria,
                                    " criteria, got ", rubric.criteria.size()));
  }
  for (const Criterion& criterion : rubric.criteria) {
    if (!criterion.check.has_value()) {
      if (limits.require_checks) {
        problems.push_back(
            absl::StrCat("criterion ", criterion.id,
                         ": the embedded grader needs a check, got none"));
      }
      continue;
    }
    const std::string& name = criterion.check->name;
    const bool known = std::any_of(
        limits.catalogue.begin(), limits.catalogue.end(),
        [&](const CatalogueEntry& entry) { return entry.name == name; });
    if (!known) {
      problems.push_back(absl::StrCat("criterion ", criterion.id, ": check \"",
                                      name, "\" is not in the catalogue"));
    }
  }
  return problems;
}

std::vector<std::string> DropNearDuplicates(Rubric& rubric) {
  std::vector<std::string> dropped;
  std::vector<Criterion> kept;
  for (Criterion& criterion : rubric.criteria) {
    const bool repeats =
        std::any_of(kept.begin(), kept.end(), [&](const Criterion& earlier) {
          return earlier.id == criterion.id ||
                 Overlap(WordsOf(earlier), WordsOf(criterion)) >=
                     kNearDuplicate;
        });
    if (repeats) {
      dropped.push_back(criterion.id);
    } else {
      kept.push_back(std::move(criterion));
    }
  }
  rubric.criteria = std::move(kept);
  return dropped;
}

std::vector<RubricChange> ChangesBetween(
    const Rubric& active, const Rubric& proposed,
    const std::vector<Rubric>& refinements) {
  std::vector<RubricChange> changes;
  for (const Criterion& criterion : proposed.criteria) {
    const Criterion* old = Find(active, criterion.id);
    if (old != nullptr && *old == criterion) continue;
    changes.push_back({old == nullptr ? "add" : "rewrite", criterion.id,
                       absl::StrCat("merged by the meta-judge; ",
                                    Support(refinements, criterion.id))});
  }
  for (const Criterion& old : active.criteria) {
    if (Find(proposed, old.id) != nullptr) continue;
    changes.push_back({"drop", old.id,
                       absl::StrCat("left out of the merge; ",
                                    Support(refinements, old.id))});
  }
  return changes;
}

}  // namespace mpo::meta_reward_server
