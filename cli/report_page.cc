// SPDX-License-Identifier: Apache-2.0
#include "cli/report_page.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/progress.h"
#include "cli/report_style.h"
#include "cli/svg_chart.h"

namespace mpo::cli {
namespace {

using orchestrator::StepRecord;
using orchestrator::StepState;

Series MetricSeries(const ReportInput& input, const std::string& metric,
                    const std::string& name, const std::string& colour) {
  Series series{.name = name, .colour = colour, .points = {}};
  for (const StepRecord& step : input.snapshot.steps) {
    const auto found = step.metrics.find(metric);
    if (step.state == StepState::kCommitted && found != step.metrics.end()) {
      series.points.emplace_back(static_cast<double>(step.step), found->second);
    }
  }
  return series;
}

Series EvaluationSeries(const ReportInput& input, const std::string& metric,
                        const std::string& name, const std::string& colour) {
  Series series{.name = name, .colour = colour, .points = {}, .dots = true};
  for (const auto& [step, means] : input.snapshot.evaluations) {
    const auto found = means.find(metric);
    if (found != means.end()) {
      series.points.emplace_back(static_cast<double>(step), found->second);
    }
  }
  return series;
}

// Where the rubric that judges changes.
std::vector<Marker> RubricMarkers(const ReportInput& input) {
  std::vector<Marker> markers;
  std::string last;
  for (const StepRecord& step : input.snapshot.steps) {
    if (!last.empty() && step.rubric_sha256 != last) {
      markers.push_back({.x = static_cast<double>(step.step),
                         .label = absl::StrCat("v", step.rubric_version)});
    }
    last = step.rubric_sha256;
  }
  return markers;
}

std::string Card(const std::string& value, const std::string& name) {
  return "<div class=\"card\"><b>" + value + "</b><span>" + Escape(name) +
         "</span></div>\n";
}

std::string TrendCard(const Trend& trend, const std::string& name) {
  if (!trend.first.has_value() || !trend.last.has_value()) {
    return Card("&ndash;", name + " (not measured)");
  }
  const double change = *trend.last - *trend.first;
  return Card(absl::StrFormat("%.2f &rarr; %.2f <em class=\"%s\">%+.2f</em>",
                              *trend.first, *trend.last,
                              change >= 0 ? "up" : "down", change),
              name);
}

std::string Cards(const RunSummary& summary, int64_t total_steps) {
  std::string html = "<div class=\"cards\">\n";
  html += TrendCard(summary.proxy, "proxy: initial rubric, training");
  html += TrendCard(summary.gold, "gold, training");
  html += TrendCard(summary.heldout_gold, "gold, held-out prompts");
  html += Card(absl::StrFormat("%d / %d", summary.steps, total_steps), "steps");
  html += Card(absl::StrFormat("%d <em class=\"up\">+%d</em>",
                               summary.rubric_versions, summary.accepted),
               absl::StrFormat("rubrics used; %d of %d refinements accepted",
                               summary.accepted, summary.proposed));
  html += Card(absl::StrFormat("%d", summary.samples.committed),
               absl::StrFormat("samples trained on; %d unscorable, left out",
                               summary.samples.unscorable));
  if (summary.seconds.has_value()) {
    html += Card(ShortDuration(absl::Seconds(*summary.seconds)),
                 absl::StrFormat("wall time; %.0f generated tokens/s",
                                 summary.tokens_per_second));
  } else {
    html += Card(absl::StrFormat("%.0f", summary.tokens_per_second),
                 "generated tokens/s");
  }
  if (summary.restarts.has_value()) {
    html += Card(absl::StrCat(*summary.restarts), "processes restarted");
  }
  return html + "</div>\n";
}

std::string MainChart(const ReportInput& input) {
  std::vector<Series> series = {
      MetricSeries(input, "proxy", "proxy (score under the initial rubric)",
                   "--proxy"),
      MetricSeries(input, "gold", "gold (held-out quality measure)", "--gold")};
  Series held = EvaluationSeries(input, "heldout_gold",
                                 "gold on held-out prompts", "--held");
  Series held_proxy = EvaluationSeries(
      input, "heldout_proxy", "proxy on held-out prompts", "--heldproxy");
  held_proxy.dashed = true;
  if (!held_proxy.points.empty()) series.push_back(std::move(held_proxy));
  if (!held.points.empty()) series.push_back(std::move(held));
  return "<div class=\"panel\">" + Legend(series) +
         LineChart(series, RubricMarkers(input),
                   {.width = 1040,
                    .height = 380,
                    .y_min = 0,
                    .y_max = 10,
                    .y_label = "points of 10"}) +
         "<p class=\"soft\">Dashed verticals: the first step judged by a new "
         "rubric version. Neither judge nor reviewer ever reads gold; when "
         "proxy rises while gold falls, the rubric is being gamed.</p></div>\n";
}

std::string SmallCharts(const ReportInput& input) {
  const std::vector<std::pair<std::string, std::string>> shown = {
      {"reward", "reward (active rubric)"},
      {"kl", "KL to the base model"},
      {"response_tokens", "tokens a response"},
      {"entropy", "entropy"},
      {"clip_fraction", "share of clipped ratios"},
      {"grad_norm", "gradient norm"}};
  std::string html = "<div class=\"grid\">\n";
  for (const auto& [metric, title] : shown) {
    const Series series = MetricSeries(input, metric, title, "--held");
    if (series.points.empty()) continue;
    html += "<div class=\"panel\"><h3>" + Escape(title) + "</h3>" +
            LineChart({series}, RubricMarkers(input),
                      {.width = 500, .height = 190}) +
            "</div>\n";
  }
  return html + "</div>\n";
}

std::string Timings(const ReportInput& input) {
  static const std::vector<std::string> kColours = {
      "--gold", "--held",  "--violet",   "--proxy",
      "--rose", "--slate", "--heldproxy"};
  // Phases by the time they took together, longest first.
  std::map<std::string, double> totals;
  for (const StepRecord& step : input.snapshot.steps) {
    for (const auto& [phase, seconds] : step.seconds) {
      // The sum of the others is no phase.
      if (phase != "total") totals[phase] += seconds;
    }
  }
  std::vector<std::pair<std::string, double>> phases(totals.begin(),
                                                     totals.end());
  std::sort(phases.begin(), phases.end(),
            [](const auto& a, const auto& b) { return a.second > b.second; });
  double sum = 0;
  for (const auto& [phase, seconds] : phases) sum += seconds;
  std::vector<Series> series;
  std::string rows;
  for (size_t i = 0; i < phases.size(); ++i) {
    const auto& [phase, seconds] = phases[i];
    Series one{
        .name = phase, .colour = kColours[i % kColours.size()], .points = {}};
    for (const StepRecord& step : input.snapshot.steps) {
      const auto found = step.seconds.find(phase);
      if (found != step.seconds.end()) {
        one.points.emplace_back(static_cast<double>(step.step), found->second);
      }
    }
    absl::StrAppendFormat(
        &rows,
        "<tr><td>%s</td><td class=\"n\">%.1f s</td><td><i class=\"bar\" "
        "style=\"width:%.0fpx;background:var(%s)\"></i>%.0f%%</td></tr>\n",
        Escape(phase), seconds, sum > 0 ? 200 * seconds / sum : 0, one.colour,
        sum > 0 ? 100 * seconds / sum : 0);
    series.push_back(std::move(one));
  }
  return "<div class=\"grid\"><div class=\"panel\">" + Legend(series) +
         StackedBars(series,
                     {.width = 500, .height = 240, .y_label = "seconds"}) +
         "</div><div class=\"panel\"><table><tr><th>phase</th>"
         "<th class=\"n\">all steps</th><th></th></tr>" +
         rows + "</table></div></div>\n";
}

std::string Operations(const ReportInput& input) {
  std::string html =
      "<div class=\"panel\"><table><tr><th>process</th>"
      "<th class=\"n\">restarts</th></tr>\n";
  std::map<std::string, int> restarts;
  const char* note = "not known: mpo train did not start the processes";
  if (input.snapshot.supervision.has_value()) {
    restarts = input.snapshot.supervision->restarts;
    note = "no process had to be started again";
  }
  if (restarts.empty()) {
    absl::StrAppendFormat(
        &html, "<tr><td class=\"soft\" colspan=\"2\">%s</td></tr>\n", note);
  }
  for (const auto& [process, count] : restarts) {
    absl::StrAppendFormat(&html,
                          "<tr><td>%s</td><td class=\"n\">%d</td></tr>\n",
                          Escape(process), count);
  }
  html += "</table><details><summary>events of the run</summary><table>\n";
  for (const auto& event : input.snapshot.events) {
    absl::StrAppendFormat(
        &html, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n",
        absl::FormatTime("%Y-%m-%d %H:%M:%S", event.at, absl::UTCTimeZone()),
        Escape(event.kind), Escape(event.detail));
  }
  return html + "</table></details></div>\n";
}

}  // namespace

std::string ReportPage(const ReportInput& input) {
  const RunSummary& summary = input.summary;
  std::string html =
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\"><title>" +
      Escape(summary.run) + " - MPO Mesh</title><style>" + kReportStyle +
      "</style></head><body><main>\n<header><h1>" + Escape(summary.run) +
      "</h1><div class=\"soft\">" +
      absl::StrFormat(
          "Meta Policy Optimization run &middot; seed %d &middot; "
          "configuration "
          "<code>%s</code> &middot; weights <code>%s</code> &middot; written "
          "%s",
          summary.seed, Escape(summary.config_sha256.substr(0, 12)),
          Escape(summary.weights_sha256.substr(0, 12)),
          absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::Now(),
                           absl::UTCTimeZone())) +
      "</div></header>\n";
  html += Cards(summary, input.snapshot.run.total_steps);
  html += "<h2>Proxy and gold</h2>\n" + MainChart(input);
  html += "<h2>The rubric and why it changed</h2>\n" + RubricTimeline(input);
  html += "<h2>Responses before and after</h2>\n" + SampleCards(input);
  html += "<h2>Training</h2>\n" + SmallCharts(input);
  html += "<h2>Where the time went</h2>\n" + Timings(input);
  html += "<h2>Operation</h2>\n" + Operations(input);
  html +=
      "<h2>Configuration</h2>\n<details open><summary>config.yaml as "
      "given</summary><pre>" +
      Escape(input.snapshot.config) +
      "</pre></details>\n<details><summary>with every default and "
      "override</summary><pre>" +
      Escape(input.snapshot.resolved) + "</pre></details>\n";
  return html + "</main></body></html>\n";
}

}  // namespace mpo::cli
