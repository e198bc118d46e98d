// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/evidence_analysis.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mpo::meta_reward_server {
namespace {

using Json = nlohmann::json;

std::optional<double> Value(const Observation& row, const std::string& measure,
                            int sign) {
  const auto it = row.measures.find(measure);
  if (it == row.measures.end()) return std::nullopt;
  return sign * it->second;
}

// Correlation over the rows of both sides that have both values.
template <typename First, typename Second>
double PooledCorrelation(const std::vector<Observation>& baseline,
                         const std::vector<Observation>& recent, First first,
                         Second second) {
  std::vector<double> a;
  std::vector<double> b;
  for (const auto* rows : {&baseline, &recent}) {
    for (const Observation& row : *rows) {
      const std::optional<double> x = first(row);
      const std::optional<double> y = second(row);
      if (!x.has_value() || !y.has_value()) continue;
      a.push_back(*x);
      b.push_back(*y);
    }
  }
  return Correlation(a, b);
}

// Whether the measure that would explain a shift improved by its floor.
bool Excused(const WatchRule& rule, const std::vector<Observation>& baseline,
             const std::vector<Observation>& recent) {
  for (const WatchRule& other : WatchRules()) {
    if (std::string_view(other.measure) != rule.excuse) continue;
    const std::vector<double> base = Column(baseline, other.measure);
    const std::vector<double> now = Column(recent, other.measure);
    if (base.empty() || now.empty()) return false;
    return -other.sign * (MomentsOf(now).mean - MomentsOf(base).mean) >=
           other.floor;
  }
  return false;
}

}  // namespace

std::string Figures(const Shift& shift) {
  return absl::StrFormat("base mean %.3f, now %.3f, z %.2f, pay %.2f",
                         shift.base.mean, shift.now, shift.z, shift.pay);
}

std::vector<Shift> FindShifts(const std::vector<Observation>& baseline,
                              const std::vector<Observation>& recent,
                              const ReviewRules& rules) {
  std::vector<Shift> shifts;
  for (const WatchRule& rule : WatchRules()) {
    const std::vector<double> base = Column(baseline, rule.measure);
    const std::vector<double> now = Column(recent, rule.measure);
    if (base.empty() || now.empty()) continue;
    Shift shift;
    shift.rule = &rule;
    shift.base = MomentsOf(base);
    shift.now = MomentsOf(now).mean;
    const double moved = rule.sign * (shift.now - shift.base.mean);
    shift.z = moved / std::max(shift.base.deviation, rule.floor);
    shift.pay = PooledCorrelation(
        baseline, recent,
        [&](const Observation& row) {
          return Value(row, rule.measure, rule.sign);
        },
        [](const Observation& row) { return row.share; });
    shift.suspicious = moved >= rule.floor && shift.z >= rules.suspicious_z;
    shift.excused = shift.suspicious && Excused(rule, baseline, recent);
    if (shift.excused) shift.suspicious = false;
    shifts.push_back(shift);
  }
  return shifts;
}

std::vector<double> Column(const std::vector<Observation>& rows,
                           const std::string& measure, int sign) {
  std::vector<double> column;
  for (const Observation& row : rows) {
    if (const auto value = Value(row, measure, sign); value.has_value()) {
      column.push_back(*value);
    }
  }
  return column;
}

double CheckShare(const Check& check, double measure) {
  return std::clamp(
      (measure - check.zero_at) / (check.saturate_at - check.zero_at), 0.0,
      1.0);
}

std::vector<double> Shares(const std::vector<Observation>& rows,
                           const Check& check) {
  std::vector<double> shares = Column(rows, check.name);
  for (double& value : shares) value = CheckShare(check, value);
  return shares;
}

double LinkBetween(const std::vector<Observation>& baseline,
                   const std::vector<Observation>& recent,
                   const std::string& measure, const WatchRule& with) {
  return PooledCorrelation(
      baseline, recent,
      [&](const Observation& row) { return Value(row, measure, 1); },
      [&](const Observation& row) {
        return Value(row, with.measure, with.sign);
      });
}

absl::StatusOr<ReviewMemory> ReadMemory(const std::string& text) {
  ReviewMemory memory;
  if (text.empty()) return memory;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("z") || !json["z"].is_object()) {
    return absl::InvalidArgumentError(
        "memory: expected the JSON object of an earlier review");
  }
  for (const auto& [measure, z] : json["z"].items()) {
    if (!z.is_number()) {
      return absl::InvalidArgumentError(
          absl::StrCat("memory: z of ", measure, " is not a number"));
    }
    memory[measure] = z.get<double>();
  }
  return memory;
}

std::string WriteMemory(const ReviewMemory& memory) {
  return Json{{"z", memory}}.dump();
}

}  // namespace mpo::meta_reward_server
