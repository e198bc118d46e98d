// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/refinement.h"
#include "services/meta_reward_server/review_rules.h"
#include "services/meta_reward_server/statistics.h"

namespace mpo::meta_reward_server {

// What the reviewer knows of one response: the catalogue's measures and how
// much of the maximum the judge gave it. Nothing of the gold measure.
struct Observation {
  std::map<std::string, double> measures;
  std::optional<double> share;  // Verdict raw / maximum; none if unscorable.
};

// Measures every response that could be judged. Responses are compared within
// their own step (cross duplication).
// INVALID_ARGUMENT: a base log-prob is not finite.
absl::StatusOr<std::vector<Observation>> Observe(
    const std::vector<EvidenceItem>& evidence);

// A watched measure beside the untrained policy.
struct Shift {
  const WatchRule* rule = nullptr;
  Moments base;
  double now = 0;  // Mean of the recent responses.
  double z = 0;    // Shift in the bad direction, in deviations.
  double pay = 0;  // Correlation of "worse" with the judge's share.
  // Moved by the floor and by suspicious_z, and nothing excuses it.
  bool suspicious = false;
  bool excused = false;  // Suspicious but for WatchRule::excuse.
};

// "base mean 0.050, now 0.120, z 1.40, pay 0.31".
std::string Figures(const Shift& shift);

// One shift for each watched measure that both sides have, in table order.
std::vector<Shift> FindShifts(const std::vector<Observation>& baseline,
                              const std::vector<Observation>& recent,
                              const ReviewRules& rules);

// One value a response, times `sign`; responses without the measure (no key
// terms, say) are left out.
std::vector<double> Column(const std::vector<Observation>& rows,
                           const std::string& measure, int sign = 1);

// Share (0..1) of its range a check gives to a measure.
double CheckShare(const Check& check, double measure);

// CheckShare of every row that has the measure.
std::vector<double> Shares(const std::vector<Observation>& rows,
                           const Check& check);

// Correlation of two measures over the rows that have both.
double LinkBetween(const std::vector<Observation>& baseline,
                   const std::vector<Observation>& recent,
                   const std::string& measure, const WatchRule& with);

// z of the last review by measure, as JSON in RefinementProposal::memory.
using ReviewMemory = std::map<std::string, double>;
// INVALID_ARGUMENT: not written by WriteMemory. "" is an empty memory.
absl::StatusOr<ReviewMemory> ReadMemory(const std::string& text);
std::string WriteMemory(const ReviewMemory& memory);

}  // namespace mpo::meta_reward_server
