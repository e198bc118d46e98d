// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/types/rubric.h"

namespace mpo::rubric {

// Every problem of a rubric, each naming its criterion; empty = valid. Checks
// the shape only: whether a check's name is in the grader's catalogue is the
// judge's affair. Pure function.
std::vector<std::string> Validate(const Rubric& rubric);

}  // namespace mpo::rubric
