// SPDX-License-Identifier: Apache-2.0
#include "cli/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mpo::cli {
namespace {

// Maps data to the plot area inside the margins.
struct Frame {
  double left = 52, right = 16, top = 22, bottom = 36;
  double width = 0, height = 0;
  double x_low = 0, x_high = 0, y_low = 0, y_high = 0;

  double X(double x) const {
    const double share = x_high > x_low ? (x - x_low) / (x_high - x_low) : 0.5;
    return left + share * (width - left - right);
  }
  double Y(double y) const {
    const double share = y_high > y_low ? (y - y_low) / (y_high - y_low) : 0.5;
    return height - bottom - share * (height - top - bottom);
  }
};

std::string Number(double value) {
  const double size = std::abs(value);
  if (size != 0 && (size >= 1e5 || size < 1e-3)) {
    return absl::StrFormat("%.1e", value);
  }
  return absl::StrFormat("%.4g", value);
}

std::string Open(const ChartOptions& options) {
  return absl::StrFormat(
      "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\">\n",
      options.width, options.height);
}

std::string Empty(const ChartOptions& options) {
  return Open(options) +
         absl::StrFormat(
             "<text class=\"none\" x=\"%d\" y=\"%d\" "
             "text-anchor=\"middle\">not measured</text></svg>\n",
             options.width / 2, options.height / 2);
}

std::string Axes(const Frame& frame, const ChartOptions& options) {
  std::string svg;
  const int y_ticks = options.height < 220 ? 4 : 6;
  for (const double tick : RoundTicks(frame.y_low, frame.y_high, y_ticks)) {
    if (tick < frame.y_low - 1e-9 || tick > frame.y_high + 1e-9) continue;
    absl::StrAppendFormat(
        &svg,
        "<line class=\"rule\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
        "y2=\"%.1f\"/><text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"end\">%s</text>\n",
        frame.left, frame.width - frame.right, frame.Y(tick), frame.Y(tick),
        frame.left - 7, frame.Y(tick) + 4, Number(tick));
  }
  for (const double tick :
       RoundTicks(frame.x_low, frame.x_high, options.width / 80)) {
    if (tick < frame.x_low - 1e-9 || tick > frame.x_high + 1e-9 ||
        tick != std::round(tick)) {
      continue;
    }
    absl::StrAppendFormat(&svg,
                          "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
                          "text-anchor=\"middle\">%s</text>\n",
                          frame.X(tick), frame.height - frame.bottom + 16,
                          Number(tick));
  }
  absl::StrAppendFormat(&svg,
                        "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" "
                        "text-anchor=\"end\">%s</text>\n",
                        frame.width - frame.right, frame.height - 5,
                        Escape(options.x_label));
  if (!options.y_label.empty()) {
    absl::StrAppendFormat(&svg,
                          "<text class=\"label\" x=\"4\" y=\"12\">%s</text>\n",
                          Escape(options.y_label));
  }
  return svg;
}

// Bounds over all finite points; false when there are none.
bool Fit(const std::vector<Series>& series, const ChartOptions& options,
         Frame& frame) {
  bool any = false;
  for (const Series& one : series) {
    for (const auto& [x, y] : one.points) {
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      frame.x_low = any ? std::min(frame.x_low, x) : x;
      frame.x_high = any ? std::max(frame.x_high, x) : x;
      frame.y_low = any ? std::min(frame.y_low, y) : y;
      frame.y_high = any ? std::max(frame.y_high, y) : y;
      any = true;
    }
  }
  if (!any) return false;
  const std::vector<double> ticks = RoundTicks(frame.y_low, frame.y_high, 6);
  frame.y_low = options.y_min.value_or(std::min(frame.y_low, ticks.front()));
  frame.y_high = options.y_max.value_or(std::max(frame.y_high, ticks.back()));
  return true;
}

std::string Draw(const Series& series, const Frame& frame) {
  std::string path;
  std::string dots;
  for (const auto& [x, y] : series.points) {
    if (!std::isfinite(x) || !std::isfinite(y)) continue;
    const double clipped = std::clamp(y, frame.y_low, frame.y_high);
    absl::StrAppendFormat(&path, "%c%.1f %.1f", path.empty() ? 'M' : 'L',
                          frame.X(x), frame.Y(clipped));
    absl::StrAppendFormat(
        &dots,
        "<circle %s cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" style=\"fill:var(%s)\">"
        "<title>%s, %s: %s</title></circle>",
        series.dots ? "class=\"dot\"" : "class=\"hit\"", frame.X(x),
        frame.Y(clipped), series.dots ? "4" : "5", series.colour,
        Escape(series.name), Number(x), Number(y));
  }
  return absl::StrFormat(
      "<path class=\"line\" d=\"%s\" style=\"stroke:var(%s)\"%s/>%s\n", path,
      series.colour, series.dashed ? " stroke-dasharray=\"5 5\"" : "", dots);
}

}  // namespace

std::string Escape(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::vector<double> RoundTicks(double low, double high, int most) {
  if (!(high > low)) {
    const double pad = low == 0 ? 1 : std::abs(low) / 2;
    low -= pad;
    high += pad;
  }
  const double raw = (high - low) / std::max(1, most - 1);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * 0.999) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const double first = std::floor(low / step);
  for (double k = first; (k - 1) * step < high - step * 1e-6; ++k) {
    ticks.push_back(k * step);
  }
  return ticks;
}

std::string LineChart(const std::vector<Series>& series,
                      const std::vector<Marker>& markers,
                      const ChartOptions& options) {
  Frame frame{.width = static_cast<double>(options.width),
              .height = static_cast<double>(options.height)};
  if (!Fit(series, options, frame)) return Empty(options);
  std::string svg = Open(options) + Axes(frame, options);
  for (const Marker& marker : markers) {
    if (marker.x < frame.x_low || marker.x > frame.x_high) continue;
    absl::StrAppendFormat(
        &svg,
        "<line class=\"marker\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
        "y2=\"%.1f\"/><text class=\"marker\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"middle\">%s</text>\n",
        frame.X(marker.x), frame.X(marker.x), frame.top,
        frame.height - frame.bottom, frame.X(marker.x), frame.top - 6,
        Escape(marker.label));
  }
  for (const Series& one : series) svg += Draw(one, frame);
  return svg + "</svg>\n";
}

std::string StackedBars(const std::vector<Series>& series,
                        const ChartOptions& options) {
  // Height of each bar so far, by x.
  std::map<double, double> stacked;
  for (const Series& one : series) {
    for (const auto& [x, y] : one.points) stacked[x] += std::max(0.0, y);
  }
  if (stacked.empty()) return Empty(options);
  double highest = 0;
  for (const auto& [x, y] : stacked) highest = std::max(highest, y);
  Frame frame{.width = static_cast<double>(options.width),
              .height = static_cast<double>(options.height),
              .x_low = stacked.begin()->first - 0.5,
              .x_high = stacked.rbegin()->first + 0.5,
              .y_low = 0,
              .y_high = RoundTicks(0, highest, 6).back()};
  const double bar = std::max(1.0, (frame.X(1) - frame.X(0)) * 0.78);
  std::string svg = Open(options) + Axes(frame, options);
  for (auto& [x, y] : stacked) y = 0;
  for (const Series& one : series) {
    for (const auto& [x, y] : one.points) {
      if (!(y > 0)) continue;
      const double low = stacked[x];
      stacked[x] = low + y;
      absl::StrAppendFormat(
          &svg,
          "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
          "style=\"fill:var(%s)\"><title>%s, %s %s: %.2f s</title></rect>\n",
          frame.X(x) - bar / 2, frame.Y(low + y), bar,
          frame.Y(low) - frame.Y(low + y), one.colour, Escape(one.name),
          Escape(options.x_label), Number(x), y);
    }
  }
  return svg + "</svg>\n";
}

std::string Legend(const std::vector<Series>& series) {
  std::string html = "<div class=\"legend\">";
  for (const Series& one : series) {
    absl::StrAppendFormat(
        &html, "<span><i class=\"%s\" style=\"--c:var(%s)\"></i>%s</span>",
        one.dashed ? "dash"
        : one.dots ? "dot"
                   : "",
        one.colour, Escape(one.name));
  }
  return html + "</div>\n";
}

}  // namespace mpo::cli
