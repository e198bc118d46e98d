// SPDX-License-Identifier: Apache-2.0
#include "mpo/judge/equation.h"

#include <cctype>
#include <string_view>

#include "absl/strings/numbers.h"

namespace mpo::judge {

std::optional<Equation> FindEquation(const std::string& text) {
  const char* at = text.c_str();
  const char* const end = at + text.size();
  const auto spaces = [&] {
    while (at < end && (*at == ' ' || *at == '\t')) ++at;
  };
  const auto number = [&](double* value) {
    spaces();
    const char* const begin = at;
    while (at < end && std::isdigit(static_cast<unsigned char>(*at))) ++at;
    return at - begin <= 15 && absl::SimpleAtod(std::string(begin, at), value);
  };
  while (at < end) {
    if (!std::isdigit(static_cast<unsigned char>(*at))) {
      ++at;
      continue;
    }
    Equation equation;
    const char* const begin = at;
    if (number(&equation.left)) {
      spaces();
      equation.sign = at < end ? *at++ : '\0';
      if (std::string_view("+-*x").find(equation.sign) !=
              std::string_view::npos &&
          equation.sign != '\0' && number(&equation.right)) {
        spaces();
        if (at < end && *at == '=' && (++at, number(&equation.result))) {
          return equation;
        }
      }
    }
    at = begin;
    while (at < end && std::isdigit(static_cast<unsigned char>(*at))) ++at;
  }
  return std::nullopt;
}

bool Holds(const Equation& equation) {
  switch (equation.sign) {
    case '+':
      return equation.left + equation.right == equation.result;
    case '-':
      return equation.left - equation.right == equation.result;
    default:
      return equation.left * equation.right == equation.result;
  }
}

}  // namespace mpo::judge
