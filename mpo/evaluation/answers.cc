// SPDX-License-Identifier: Apache-2.0
#include "mpo/evaluation/answers.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mpo::evaluation {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)); }

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return lower;
}

// Reads digits with thousands separators and a fraction at `at`; moves `at`
// behind them. Expects a digit there.
double ReadUnsigned(std::string_view text, size_t& at) {
  std::string digits;
  while (at < text.size()) {
    const bool separator = text[at] == ',' && at + 3 < text.size() &&
                           IsDigit(text[at + 1]) && IsDigit(text[at + 2]) &&
                           IsDigit(text[at + 3]) &&
                           (at + 4 >= text.size() || !IsDigit(text[at + 4]));
    if (separator) {
      ++at;
    } else if (IsDigit(text[at])) {
      digits += text[at++];
    } else {
      break;
    }
  }
  if (at + 1 < text.size() && text[at] == '.' && IsDigit(text[at + 1])) {
    digits += text[at++];
    while (at < text.size() && IsDigit(text[at])) digits += text[at++];
  }
  double value = 0;
  if (!absl::SimpleAtod(digits, &value)) return std::nan("");
  return value;
}

// Reads the number whose first digit is at `at`, with its sign and, as in
// "3/4", its denominator.
double ReadNumber(std::string_view text, size_t& at) {
  size_t sign = at;
  if (sign > 0 && text[sign - 1] == '$') --sign;
  bool negative = false;
  if (sign > 0 && text[sign - 1] == '-') {
    // In "9-4" and "9 - 4" the dash is an operator.
    size_t before = sign - 1;
    while (before > 0 && IsSpace(text[before - 1])) --before;
    negative = before == 0 ||
               !std::isalnum(static_cast<unsigned char>(text[before - 1]));
  }
  double value = ReadUnsigned(text, at);
  if (at + 1 < text.size() && text[at] == '/' && IsDigit(text[at + 1])) {
    value /= ReadUnsigned(text, ++at);
  }
  return negative ? -value : value;
}

std::optional<double> LastNumber(std::string_view text) {
  std::optional<double> last;
  for (size_t at = 0; at < text.size();) {
    if (IsDigit(text[at])) {
      last = ReadNumber(text, at);
    } else {
      ++at;
    }
  }
  if (last.has_value() && !std::isfinite(*last)) return std::nullopt;
  return last;
}

}  // namespace

std::optional<double> ParseNumber(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() &&
         (IsSpace(text.back()) || text.back() == '.' || text.back() == '%')) {
    text.remove_suffix(1);
  }
  size_t at = 0;
  while (at < text.size() && (text[at] == '-' || text[at] == '$')) ++at;
  if (at > 2 || at >= text.size() || !IsDigit(text[at])) return std::nullopt;
  const double value = ReadNumber(text, at);
  if (at != text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<double> FinalNumber(std::string_view response) {
  const std::string lower = Lower(response);
  std::string_view text = lower;
  for (size_t at = text.find("question:"); at != std::string_view::npos;
       at = text.find("question:", at + 1)) {
    size_t line = at;
    while (line > 0 && (text[line - 1] == ' ' || text[line - 1] == '\t'))
      --line;
    if (line > 0 && text[line - 1] == '\n') {
      text = text.substr(0, line);
      break;
    }
  }
  constexpr std::string_view kMarker = "answer:";
  const size_t marker = text.rfind(kMarker);
  if (marker == std::string_view::npos) return LastNumber(text);
  std::string_view line = text.substr(marker + kMarker.size());
  // "Answer:" may stand on a line of its own.
  while (!line.empty() && IsSpace(line.front())) line.remove_prefix(1);
  return LastNumber(line.substr(0, line.find('\n')));
}

absl::StatusOr<bool> IsCorrect(const std::string& reference,
                               const std::string& response) {
  const std::optional<double> expected = ParseNumber(reference);
  if (!expected.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("reference: expected a number, got \"", reference, "\""));
  }
  const std::optional<double> found = FinalNumber(response);
  if (!found.has_value()) return false;
  const double tolerance = 1e-9 * std::max(1.0, std::abs(*expected));
  return std::abs(*found - *expected) <= tolerance;
}

}  // namespace mpo::evaluation
