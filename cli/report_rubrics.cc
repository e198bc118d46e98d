// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cli/report_page.h"
#include "cli/svg_chart.h"

namespace mpo::cli {
namespace {

using orchestrator::RefinementRecord;
using orchestrator::RefinementState;
using orchestrator::RubricRecord;
using orchestrator::RubricState;

std::string Removed(const std::string& text) {
  return "<del>" + Escape(text) + "</del>";
}
std::string Added(const std::string& text) {
  return "<ins>" + Escape(text) + "</ins>";
}

// Words of both texts in order, with the changed ones marked (longest common
// subsequence).
std::string WordDiff(const std::string& from, const std::string& to) {
  const std::vector<std::string> a = absl::StrSplit(from, ' ');
  const std::vector<std::string> b = absl::StrSplit(to, ' ');
  std::vector<std::vector<int>> common(a.size() + 1,
                                       std::vector<int>(b.size() + 1, 0));
  for (size_t i = a.size(); i-- > 0;) {
    for (size_t j = b.size(); j-- > 0;) {
      common[i][j] = a[i] == b[j]
                         ? common[i + 1][j + 1] + 1
                         : std::max(common[i + 1][j], common[i][j + 1]);
    }
  }
  std::string html;
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() || j < b.size()) {
    if (i < a.size() && j < b.size() && a[i] == b[j]) {
      html += Escape(a[i++]) + " ";
      ++j;
    } else if (j == b.size() ||
               (i < a.size() && common[i + 1][j] >= common[i][j + 1])) {
      html += Removed(a[i++]) + " ";
    } else {
      html += Added(b[j++]) + " ";
    }
  }
  return html;
}

std::string RangeOf(const Criterion& criterion) {
  std::string text = absl::StrFormat("%d to %d, weight %g", criterion.minimum,
                                     criterion.maximum, criterion.weight);
  if (criterion.mode == CriterionMode::kGate) text += ", gate";
  if (criterion.mode == CriterionMode::kVeto) text += ", veto";
  if (criterion.mode == CriterionMode::kShadow) text += ", shadow";
  if (criterion.polarity == Polarity::kDeduct) text += ", deducted";
  return text;
}

std::string CheckOf(const Criterion& criterion) {
  if (!criterion.check.has_value()) return "judge";
  return absl::StrFormat("%s: %g to %g", criterion.check->name,
                         criterion.check->zero_at,
                         criterion.check->saturate_at);
}

std::string Changed(const std::string& from, const std::string& to) {
  return from == to ? Escape(to) : Removed(from) + " " + Added(to);
}

std::string Row(const char* kind, const std::string& id,
                const std::string& text, const std::string& range,
                const std::string& check) {
  return absl::StrFormat(
      "<tr class=\"%s\"><td><code>%s</code></td><td>%s</td><td>%s</td>"
      "<td>%s</td></tr>\n",
      kind, Escape(id), text, range, check);
}

constexpr char kTableHead[] =
    "<table><tr><th>criterion</th><th>what the judge reads</th><th>range</th>"
    "<th>program check</th></tr>\n";

std::string WholeRubric(const Rubric& rubric) {
  std::string html = kTableHead;
  for (const Criterion& criterion : rubric.criteria) {
    html += Row("", criterion.id, Escape(criterion.text),
                Escape(RangeOf(criterion)), Escape(CheckOf(criterion)));
  }
  return html + "</table>";
}

std::string Lines(const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string html = "<ul>";
  for (const std::string& line : lines) html += "<li>" + Escape(line) + "</li>";
  return html + "</ul>\n";
}

std::string Badge(const char* kind, const std::string& text) {
  return absl::StrFormat("<span class=\"badge %s\">%s</span>", kind,
                         Escape(text));
}

std::string Heading(const RubricRecord* rubric, const std::string& what) {
  std::string html = "<h3>" + Escape(what);
  if (rubric == nullptr) return html;
  html +=
      absl::StrFormat(" <code>%s</code>", Escape(rubric->sha256.substr(0, 10)));
  if (rubric->state == RubricState::kActive) html += Badge("good", "active");
  if (rubric->first_step > 0) {
    html += Badge("", absl::StrCat("judged from step ", rubric->first_step));
  }
  return html;
}

// One entry of the timeline for a review of the rubric.
std::string RefinementEntry(
    const ReportInput& input, const RefinementRecord& refinement,
    const std::map<std::string, const RubricRecord*>& records) {
  const auto found = records.find(refinement.result_rubric);
  const RubricRecord* result = found == records.end() ? nullptr : found->second;
  const bool accepted = refinement.state == RefinementState::kAccepted;
  const std::string what =
      accepted && result != nullptr && result->version.has_value()
          ? absl::StrCat("Version ", *result->version)
          : "Review";
  const char* badge = accepted ? "good" : "warn";
  if (refinement.state == RefinementState::kRejected) badge = "bad";
  std::string html = absl::StrFormat("<div class=\"entry panel %s\">",
                                     orchestrator::Name(refinement.state));
  html += Heading(accepted ? result : nullptr,
                  absl::StrCat(what, ", after step ", refinement.step));
  html += Badge(badge, orchestrator::Name(refinement.state)) + "</h3>\n";
  if (!refinement.changes.empty()) {
    html += "<ul>";
    for (const RubricChange& change : refinement.changes) {
      html += absl::StrFormat("<li><b>%s</b> <code>%s</code> &mdash; %s</li>",
                              Escape(change.action), Escape(change.criterion),
                              Escape(change.reason));
    }
    html += "</ul>\n";
  }
  html += Lines(refinement.reasons);
  const auto from = input.rubrics.find(refinement.base_rubric);
  const auto to = input.rubrics.find(refinement.result_rubric);
  if (from != input.rubrics.end() && to != input.rubrics.end() &&
      refinement.base_rubric != refinement.result_rubric) {
    html += RubricDiff(from->second, to->second);
  }
  if (!refinement.analyses.empty()) {
    html += "<details><summary>analysis</summary>" +
            Lines(refinement.analyses) + "</details>";
  }
  return html + "</div>\n";
}

}  // namespace

std::string RubricDiff(const Rubric& from, const Rubric& to) {
  std::map<std::string, const Criterion*> before;
  for (const Criterion& criterion : from.criteria) {
    before[criterion.id] = &criterion;
  }
  std::string rows;
  for (const Criterion& criterion : to.criteria) {
    const auto found = before.find(criterion.id);
    if (found == before.end()) {
      rows += Row("add", criterion.id, Added(criterion.text),
                  Added(RangeOf(criterion)), Added(CheckOf(criterion)));
      continue;
    }
    const Criterion& old = *found->second;
    if (!(old == criterion)) {
      rows += Row("edit", criterion.id, WordDiff(old.text, criterion.text),
                  Changed(RangeOf(old), RangeOf(criterion)),
                  Changed(CheckOf(old), CheckOf(criterion)));
    }
    before.erase(found);
  }
  for (const Criterion& criterion : from.criteria) {
    if (before.count(criterion.id) == 0) continue;
    rows += Row("drop", criterion.id, Removed(criterion.text),
                Removed(RangeOf(criterion)), Removed(CheckOf(criterion)));
  }
  if (rows.empty()) return "";
  return kTableHead + rows + "</table>\n";
}

std::string RubricTimeline(const ReportInput& input) {
  std::map<std::string, const RubricRecord*> records;
  // Entries by the step they belong to, reviews after rubrics made by hand.
  std::multimap<int64_t, std::string> entries;
  for (const RubricRecord& rubric : input.snapshot.rubrics) {
    records[rubric.sha256] = &rubric;
    const auto parsed = input.rubrics.find(rubric.sha256);
    const auto parent = input.rubrics.find(rubric.parent);
    if (rubric.origin == "refinement" || parsed == input.rubrics.end()) {
      continue;
    }
    const bool initial = rubric.origin == "initial";
    std::string html = "<div class=\"entry panel\">";
    html += Heading(
        &rubric, initial ? "Initial rubric" : "Rubric given by the operator");
    html += "</h3>" + Lines(rubric.reasons);
    html += parent == input.rubrics.end()
                ? WholeRubric(parsed->second)
                : RubricDiff(parent->second, parsed->second);
    entries.emplace(initial ? -1 : rubric.first_step, html + "</div>\n");
  }
  for (const RefinementRecord& refinement : input.snapshot.refinements) {
    entries.emplace(refinement.step,
                    RefinementEntry(input, refinement, records));
  }
  std::string html = "<div class=\"timeline\">\n";
  for (const auto& [step, entry] : entries) html += entry;
  html += "</div>\n";
  const auto active = input.rubrics.find(input.snapshot.run.active_rubric);
  if (active != input.rubrics.end() &&
      input.snapshot.run.active_rubric != input.snapshot.run.initial_rubric) {
    html +=
        "<details><summary>the rubric at the end, in full</summary>"
        "<div class=\"panel\">" +
        WholeRubric(active->second) + "</div></details>\n";
  }
  return html;
}

}  // namespace mpo::cli
