// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mpo::cli {
namespace {

std::optional<double> Metric(const orchestrator::StepRecord& step,
                             const char* name) {
  const auto found = step.metrics.find(name);
  if (found == step.metrics.end()) return std::nullopt;
  return found->second;
}

// "  proxy 5.21  gold 4.98 ..." of one step.
std::string Figures(const orchestrator::StepRecord& step) {
  std::string text;
  if (const auto proxy = Metric(step, "proxy")) {
    absl::StrAppendFormat(&text, "  proxy %.2f", *proxy);
  }
  if (const auto gold = Metric(step, "gold")) {
    absl::StrAppendFormat(&text, "  gold %.2f", *gold);
  }
  if (const auto gold = Metric(step, "heldout_gold")) {
    absl::StrAppendFormat(&text, "  held-out %.2f", *gold);
  }
  if (const auto kl = Metric(step, "kl")) {
    absl::StrAppendFormat(&text, "  kl %.3f", *kl);
  }
  if (const auto rate = Metric(step, "tokens_per_second")) {
    absl::StrAppendFormat(&text, "  %.0f tok/s", *rate);
  }
  absl::StrAppendFormat(&text, "  rubric %d", step.rubric_version);
  return text;
}

}  // namespace

void RemainingTime::OnStep(int64_t step, absl::Time committed) {
  recent_.emplace_back(step, committed);
  if (recent_.size() > kWindow) recent_.pop_front();
}

std::optional<absl::Duration> RemainingTime::Estimate(int64_t total) const {
  if (recent_.size() < 2) return std::nullopt;
  const auto& [first_step, first_time] = recent_.front();
  const auto& [last_step, last_time] = recent_.back();
  if (last_step <= first_step) return std::nullopt;
  return (last_time - first_time) /
         static_cast<double>(last_step - first_step) *
         static_cast<double>(std::max<int64_t>(0, total - last_step));
}

std::string ShortDuration(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Seconds(0.5));
  if (seconds >= 3600) {
    return absl::StrFormat("%dh%02dm", seconds / 3600, seconds % 3600 / 60);
  }
  if (seconds >= 60) {
    return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  }
  return absl::StrFormat("%ds", seconds);
}

std::string StepLine(const orchestrator::StepRecord& step, int64_t total,
                     std::optional<absl::Duration> left) {
  const int digits = static_cast<int>(std::to_string(total).size());
  std::string line = absl::StrFormat("step %*d/%d", digits, step.step, total);
  line += Figures(step);
  if (const auto unscorable = Metric(step, "unscorable");
      unscorable.value_or(0) > 0) {
    absl::StrAppendFormat(&line, "  unscorable %g", *unscorable);
  }
  if (left.has_value()) line += "  left " + ShortDuration(*left);
  return line;
}

std::string BarLine(const BarState& state, int width) {
  std::string right = absl::StrFormat(" %d/%d", state.step, state.total);
  if (state.last != nullptr) right += Figures(*state.last);
  if (state.left.has_value()) right += "  left " + ShortDuration(*state.left);
  if (!state.phase.empty()) {
    right += "  " + state.phase;
    if (state.samples_planned > 0) {
      absl::StrAppendFormat(&right, " %d/%d", state.samples_done,
                            state.samples_planned);
    }
  }
  const int room = std::max(0, width);
  const int bar = std::clamp(room - static_cast<int>(right.size()) - 2, 10, 30);
  const int filled =
      state.total > 0 ? static_cast<int>(bar * state.step / state.total) : 0;
  std::string line = absl::StrCat("[", std::string(filled, '#'),
                                  std::string(bar - filled, '.'), "]", right);
  if (static_cast<int>(line.size()) > room) line.resize(room);
  return line;
}

}  // namespace mpo::cli
