// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mpo::cli {

// One line of a chart. Colours are CSS variables of the page ("--gold").
struct Series {
  std::string name;
  std::string colour;
  std::vector<std::pair<double, double>> points;  // Ascending x.
  bool dashed = false;
  bool dots = false;  // Draw each point.
};

// A vertical line at x with a short label above it.
struct Marker {
  double x = 0;
  std::string label;
};

struct ChartOptions {
  int width = 960;  // Of the viewBox; the chart scales to its container.
  int height = 320;
  std::optional<double> y_min = {};  // Absent: from the data.
  std::optional<double> y_max = {};
  std::string x_label = "step";
  std::string y_label = {};
};

// Text safe inside HTML and SVG, attributes included.
std::string Escape(const std::string& text);

// At most `most` + 1 round values that span [low, high].
std::vector<double> RoundTicks(double low, double high, int most);

// An SVG element; points that are not finite are left out. A chart without
// any point says so.
std::string LineChart(const std::vector<Series>& series,
                      const std::vector<Marker>& markers,
                      const ChartOptions& options);

// One stacked bar for each x; every series has a value per x, missing = 0.
std::string StackedBars(const std::vector<Series>& series,
                        const ChartOptions& options);

// The key of a chart as HTML.
std::string Legend(const std::vector<Series>& series);

}  // namespace mpo::cli
