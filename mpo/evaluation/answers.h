// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mpo::evaluation {

// The number `text` consists of, surrounding spaces, "$", "%" and a closing
// full stop aside: "12", "-3", "1,200", "2.50", "3/4". Nullopt for anything
// else.
std::optional<double> ParseNumber(std::string_view text);

// The number a response gives as its answer. Text from a line on that starts a
// new "Question:" is cut off (a completion that goes on with the few-shot
// pattern). Where "Answer:" occurs, the answer is the last number on the rest
// of that line (so "a + b = c" answers c); the last "Answer:" counts. Elsewhere
// it is the last number of the text. Nullopt where there is none.
std::optional<double> FinalNumber(std::string_view response);

// Whether the response's final number equals the reference.
// INVALID_ARGUMENT: the reference is not a number.
absl::StatusOr<bool> IsCorrect(const std::string& reference,
                               const std::string& response);

}  // namespace mpo::evaluation
