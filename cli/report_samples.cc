// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_format.h"
#include "cli/report_page.h"
#include "cli/svg_chart.h"

namespace mpo::cli {
namespace {

using orchestrator::SampleRecord;

std::string PromptText(const Prompt& prompt) {
  return prompt.messages.empty() ? prompt.text : prompt.messages.back().content;
}

std::string Response(const std::string& label, const SampleRecord& sample) {
  std::string html = "<div><b>" + Escape(label) + "</b>";
  if (!sample.result.has_value()) {
    return html + "<p class=\"soft\">no response recorded</p></div>";
  }
  const orchestrator::MeasuredOutcome& result = *sample.result;
  if (result.proxy.has_value()) {
    absl::StrAppendFormat(&html, "<span class=\"badge\">proxy %.2f</span>",
                          *result.proxy);
  }
  if (result.gold.has_value()) {
    absl::StrAppendFormat(&html, "<span class=\"badge\">gold %.2f</span>",
                          *result.gold);
  }
  html += "<div class=\"response\">" + Escape(result.outcome.text) + "</div>";
  const Verdict& verdict = result.outcome.verdict;
  html += "<div class=\"chips\">";
  if (!verdict.scored) {
    html += absl::StrFormat("<span>unscorable: %s</span>",
                            Escape(Name(verdict.reason)));
  }
  for (const CriterionScore& score : verdict.criteria) {
    absl::StrAppendFormat(&html, "<span>%s %.2g/%g</span>", Escape(score.id),
                          score.score, score.maximum);
  }
  absl::StrAppendFormat(&html, "<span>%d tokens, %s</span></div></div>",
                        result.outcome.response_tokens,
                        orchestrator::Name(result.outcome.finish_reason));
  return html;
}

}  // namespace

std::string SampleCards(const ReportInput& input) {
  if (input.pairs.empty()) {
    return "<p class=\"soft\">The run is too young for a comparison.</p>\n";
  }
  std::string html = "<p class=\"soft\">" + Escape(input.pairs_note) + "</p>\n";
  for (const SamplePair& pair : input.pairs) {
    const std::string before = PromptText(pair.before.sample.prompt);
    const std::string after = PromptText(pair.after.sample.prompt);
    html += "<div class=\"panel pair\"><div class=\"soft\">" + Escape(before) +
            (before == after ? "" : " / " + Escape(after)) +
            "</div><div class=\"grid\">" +
            Response(input.before_label, pair.before) +
            Response(input.after_label, pair.after) + "</div></div>\n";
  }
  return html;
}

}  // namespace mpo::cli
