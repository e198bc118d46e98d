// SPDX-License-Identifier: Apache-2.0
#include "mpo/evaluation/answers.h"

#include <catch2/catch.hpp>

namespace mpo::evaluation {
namespace {

TEST_CASE("ParseNumber reads what people write as one number", "[evaluation]") {
  CHECK(ParseNumber("12") == 12.0);
  CHECK(ParseNumber(" -3. ") == -3.0);
  CHECK(ParseNumber("1,200") == 1200.0);
  CHECK(ParseNumber("2.50") == 2.5);
  CHECK(ParseNumber("3/4") == 0.75);
  CHECK(ParseNumber("$7") == 7.0);
  CHECK(ParseNumber("40%") == 40.0);
}

TEST_CASE("ParseNumber refuses anything else", "[evaluation]") {
  for (const char* text :
       {"", "seven", "3 apples", "1/0", "--", "12,34", "-"}) {
    INFO(text);
    CHECK_FALSE(ParseNumber(text).has_value());
  }
}

TEST_CASE("FinalNumber takes the result after the last Answer:",
          "[evaluation]") {
  CHECK(FinalNumber(" 3 + 4 = 7") == 7.0);
  CHECK(FinalNumber("Answer: 9 - 4 = 5") == 5.0);
  CHECK(FinalNumber("Answer: 9-4") == 4.0);
  CHECK(FinalNumber("answer:\n12\nThat was easy, 99.") == 12.0);
  CHECK(FinalNumber("Answer: 5. Wait. Answer: 6") == 6.0);
  CHECK(FinalNumber("He has 12 pens, then 15.") == 15.0);
  CHECK(FinalNumber("It costs $1,234.50.") == 1234.5);
  CHECK(FinalNumber("2 - 5 = -3") == -3.0);
}

TEST_CASE("FinalNumber ignores the next question of a few-shot pattern",
          "[evaluation]") {
  CHECK(FinalNumber(" 3 + 4 = 7\n\nQuestion: Sam has 9 pens. Answer: 9") ==
        7.0);
}

TEST_CASE("FinalNumber is nothing where no number was given", "[evaluation]") {
  CHECK_FALSE(FinalNumber("").has_value());
  CHECK_FALSE(FinalNumber("no idea").has_value());
  CHECK_FALSE(FinalNumber("3 pens. Answer: none").has_value());
  CHECK_FALSE(FinalNumber("1/0").has_value());
}

TEST_CASE("IsCorrect compares numbers, not strings", "[evaluation]") {
  CHECK(*IsCorrect("7", "Answer: 7.0"));
  CHECK(*IsCorrect("1200", "so 1,200"));
  CHECK_FALSE(*IsCorrect("7", "70"));
  CHECK_FALSE(*IsCorrect("7", "seven"));
  CHECK(IsCorrect("seven", "7").status().code() ==
        absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mpo::evaluation
