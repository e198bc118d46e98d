// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace mpo::judge {

// "a + b = c" between whole numbers; the sign is one of + - * x.
struct Equation {
  double left = 0;
  char sign = 0;
  double right = 0;
  double result = 0;
};

// The first equation a text shows. Pure function.
std::optional<Equation> FindEquation(const std::string& text);

bool Holds(const Equation& equation);

}  // namespace mpo::judge
