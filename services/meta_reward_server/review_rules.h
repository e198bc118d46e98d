// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/types/rubric.h"

namespace mpo::meta_reward_server {

// Every number of the embedded reviewer (docs/quickstart.md lists them too).
struct ReviewRules {
  int least_evidence = 8;       // Fewer texts on either side: no change.
  double suspicious_z = 0.5;    // Least shift in deviations.
  double saturated = 0.8;       // Mean share at which a count is saturated.
  double linked = 0.3;          // Correlation of a count with a bad shift.
  double least_pay = 0.1;       // Counter-criteria only where the shift pays.
  int most_added = 3;           // Counter-criteria a review.
  double full_marks = 0.5;      // Deviations beyond the base mean still free.
  double no_marks = 2.5;        // Deviations at which nothing is left ...
  double slope_quantile = 0.8;  // ... or this quantile now, if worse.
  double widen_below = 0.3;     // Mean share under which a ramp has no slope.
  double trend = 0.8;           // z under this share of the last z: shrinking.
  double raise_by = 0.5;        // Weight, when a shift does not shrink.
  double merit_raise_by = 0.75;
  double most_weight = 3.0;
  double merit_drop = 0.25;  // Deviations (at least 0.2) under the base mean.
  double merit_least_deviation = 0.2;
  double bar_mean = 0.75;      // Mean share of the total that raises the bar.
  double bar_spread = 0.16;    // Least deviation of a new merit's share.
  double merge_offset = 0.06;  // Kept: highest weight x (offset + deviation).
};

// A measure that degenerate texts move: what to watch, and the criterion that
// answers it.
struct WatchRule {
  const char* measure;
  int sign;            // +1: more is worse.
  double floor;        // Least absolute shift, and least deviation.
  const char* family;  // Count measure whose hardening answers it too, or "".
  const char* id;
  const char* title;
  const char* text;
  // A watched measure whose improvement by its own floor explains the shift,
  // so that it is not suspicious; "" = none.
  const char* excuse = "";
};

// A count that can be stuffed, and the quality it stands for.
struct HardenRule {
  const char* measure;
  const char* harder;  // Measure read from then on.
  double zero_at;
  double saturate_at;
  const char* text;
};

// Something good texts do: asked for when it fell below the untrained policy,
// or (raise_bar) when the rubric no longer separates answers.
struct MeritRule {
  const char* measure;
  double zero_at;
  double saturate_at;
  bool on_fall;
  bool raise_bar;
  const char* id;
  const char* title;
  const char* text;
};

const std::vector<WatchRule>& WatchRules();
const std::vector<HardenRule>& HardenRules();
const std::vector<MeritRule>& MeritRules();

// A criterion 0..5 of weight 1 that reads `measure`.
Criterion MakeCriterion(const std::string& id, const std::string& title,
                        const std::string& text, const std::string& measure,
                        double zero_at, double saturate_at);

}  // namespace mpo::meta_reward_server
