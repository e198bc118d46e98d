// SPDX-License-Identifier: Apache-2.0
#include "cli/run_summary.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_format.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::ordered_json;
using orchestrator::RefinementState;
using orchestrator::StepRecord;
using orchestrator::StepState;

std::vector<const StepRecord*> Committed(const std::vector<StepRecord>& steps) {
  std::vector<const StepRecord*> committed;
  for (const StepRecord& step : steps) {
    if (step.state == StepState::kCommitted) committed.push_back(&step);
  }
  return committed;
}

std::optional<double> Mean(const std::vector<const StepRecord*>& steps,
                           size_t begin, size_t end,
                           const std::string& metric) {
  double sum = 0;
  int count = 0;
  for (size_t i = begin; i < end; ++i) {
    const auto found = steps[i]->metrics.find(metric);
    if (found == steps[i]->metrics.end()) continue;
    sum += found->second;
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / count;
}

double TokensPerSecond(const std::vector<const StepRecord*>& steps) {
  double tokens = 0;
  double seconds = 0;
  for (const StepRecord* step : steps) {
    const auto count = step->metrics.find("tokens");
    const auto rate = step->metrics.find("tokens_per_second");
    if (count == step->metrics.end() || rate == step->metrics.end() ||
        rate->second <= 0) {
      continue;
    }
    tokens += count->second;
    seconds += count->second / rate->second;
  }
  return seconds > 0 ? tokens / seconds : 0;
}

Trend EvaluationTrend(const RunSnapshot& snapshot, const std::string& metric) {
  Trend trend;
  for (const auto& [step, means] : snapshot.evaluations) {
    const auto found = means.find(metric);
    if (found == means.end()) continue;
    if (!trend.first.has_value()) trend.first = found->second;
    trend.last = found->second;
  }
  return trend;
}

template <typename Number>
Json OrNull(const std::optional<Number>& number) {
  return number.has_value() ? Json(*number) : Json(nullptr);
}

Json ToJson(const Trend& trend) {
  return {{"first", OrNull(trend.first)}, {"last", OrNull(trend.last)}};
}

std::string Arrow(const Trend& trend) {
  if (!trend.first.has_value() || !trend.last.has_value())
    return "not measured";
  return absl::StrFormat("%.2f -> %.2f (%+.2f)", *trend.first, *trend.last,
                         *trend.last - *trend.first);
}

}  // namespace

Trend TrendOf(const std::vector<StepRecord>& steps, const std::string& metric) {
  const std::vector<const StepRecord*> committed = Committed(steps);
  const size_t tenth = std::max<size_t>(1, committed.size() / 10);
  if (committed.empty()) return {};
  return {.first = Mean(committed, 0, tenth, metric),
          .last = Mean(committed, committed.size() - tenth, committed.size(),
                       metric)};
}

RunSummary Summarise(const RunSnapshot& snapshot) {
  const std::vector<const StepRecord*> committed = Committed(snapshot.steps);
  RunSummary summary{
      .run = snapshot.run.name,
      .config_sha256 = snapshot.run.config_sha256,
      .seed = snapshot.run.seed,
      .steps = static_cast<int64_t>(committed.size()),
      .proxy = TrendOf(snapshot.steps, "proxy"),
      .gold = TrendOf(snapshot.steps, "gold"),
      .heldout_gold = EvaluationTrend(snapshot, "heldout_gold"),
      .samples = snapshot.samples,
      .tokens_per_second = TokensPerSecond(committed),
      .weights_sha256 =
          committed.empty() ? "" : committed.back()->weights_sha256,
  };
  std::set<std::string> rubrics;
  for (const StepRecord* step : committed) rubrics.insert(step->rubric_sha256);
  summary.rubric_versions = static_cast<int64_t>(rubrics.size());
  for (const auto& refinement : snapshot.refinements) {
    if (refinement.state == RefinementState::kAccepted) ++summary.accepted;
    if (refinement.state == RefinementState::kRejected) ++summary.rejected;
  }
  summary.proposed = summary.accepted + summary.rejected;
  if (snapshot.supervision.has_value()) {
    summary.seconds = snapshot.supervision->seconds;
    summary.restarts = 0;
    for (const auto& [process, count] : snapshot.supervision->restarts) {
      *summary.restarts += count;
    }
  }
  return summary;
}

std::string ToJson(const RunSummary& summary) {
  const Json json{{"run", summary.run},
                  {"config_sha256", summary.config_sha256},
                  {"seed", summary.seed},
                  {"steps", summary.steps},
                  {"seconds", OrNull(summary.seconds)},
                  {"proxy", ToJson(summary.proxy)},
                  {"gold", ToJson(summary.gold)},
                  {"heldout_gold", ToJson(summary.heldout_gold)},
                  {"rubric_versions", summary.rubric_versions},
                  {"refinements",
                   {{"proposed", summary.proposed},
                    {"accepted", summary.accepted},
                    {"rejected", summary.rejected}}},
                  {"samples",
                   {{"planned", summary.samples.planned},
                    {"committed", summary.samples.committed},
                    {"unscorable", summary.samples.unscorable}}},
                  {"restarts", OrNull(summary.restarts)},
                  {"tokens_per_second", summary.tokens_per_second},
                  {"weights_sha256", summary.weights_sha256}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string ToText(const RunSummary& summary) {
  std::string text = absl::StrFormat("run %s, seed %d: %d steps", summary.run,
                                     summary.seed, summary.steps);
  if (summary.seconds.has_value()) {
    absl::StrAppendFormat(&text, " in %.0f s", *summary.seconds);
  }
  absl::StrAppendFormat(&text, ", %.0f generated tokens/s\n",
                        summary.tokens_per_second);
  text += "  proxy (initial rubric) " + Arrow(summary.proxy) + "\n";
  text += "  gold (training)        " + Arrow(summary.gold) + "\n";
  if (summary.heldout_gold.first.has_value()) {
    text += "  gold (held out)        " + Arrow(summary.heldout_gold) + "\n";
  }
  text += absl::StrFormat(
      "  rubric: %d versions used, %d refinements proposed, %d accepted, %d "
      "rejected\n",
      summary.rubric_versions, summary.proposed, summary.accepted,
      summary.rejected);
  text += absl::StrFormat("  samples: %d planned, %d committed, %d unscorable",
                          summary.samples.planned, summary.samples.committed,
                          summary.samples.unscorable);
  if (summary.restarts.has_value()) {
    absl::StrAppendFormat(&text, "; %d restarts", *summary.restarts);
  }
  text += "\n  weights " + summary.weights_sha256 + "\n";
  return text;
}

}  // namespace mpo::cli
