// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/types/rubric.h"

namespace mpo::judge {

// Everything that would keep a judge from scoring with a rubric: its shape
// (rubric::Validate), an aggregation or scale that is not supported, and a
// criterion that a program must read without a check of the catalogue.
// `embedded`: no model reads any criterion. Empty = it can be used. Pure
// function; whoever takes a rubric in (a run's start, a proposal, the reward
// server) asks it.
std::vector<std::string> RubricProblems(const Rubric& rubric, bool embedded);

}  // namespace mpo::judge
