// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "services/orchestrator/record.h"

namespace mpo::cli {

// Estimates the remaining time from the pace of the last steps. Not
// thread-safe.
class RemainingTime {
 public:
  // Steps are told in order, when they are committed.
  void OnStep(int64_t step, absl::Time committed);
  // Time to `total`; nullopt until two steps are known.
  std::optional<absl::Duration> Estimate(int64_t total) const;

 private:
  static constexpr size_t kWindow = 8;
  std::deque<std::pair<int64_t, absl::Time>> recent_;
};

// "1h02m", "5m40s", "12s".
std::string ShortDuration(absl::Duration duration);

// One plain line for a committed step; figures it lacks are left out:
//   step  3/32  proxy 5.21  gold 4.98  kl 0.012  612 tok/s  rubric 1  12.3 s
//   left 5m40s
std::string StepLine(const orchestrator::StepRecord& step, int64_t total,
                     std::optional<absl::Duration> left);

// What a progress bar shows.
struct BarState {
  int64_t step = 0;  // Last committed.
  int64_t total = 0;
  int samples_done = 0;  // Of the step being generated.
  int samples_planned = 0;
  std::string phase;  // "generating", "training", ...
  const orchestrator::StepRecord* last = nullptr;  // May be null.
  std::optional<absl::Duration> left;
};

// One line of at most `width` columns, without line end.
std::string BarLine(const BarState& state, int width);

}  // namespace mpo::cli
