// SPDX-License-Identifier: Apache-2.0
#include "mpo/judge/rubric_problems.h"

#include <catch2/catch.hpp>

#include "absl/strings/match.h"

namespace mpo::judge {
namespace {

Rubric Measured() {
  Criterion criterion;
  criterion.id = "words";
  criterion.text = "Many words";
  criterion.maximum = 5;
  criterion.check = Check{.name = "words", .saturate_at = 10};
  Rubric rubric;
  rubric.id = "r";
  rubric.criteria = {criterion};
  return rubric;
}

TEST_CASE("a rubric that every judge can use has no problems", "[judge]") {
  CHECK(RubricProblems(Measured(), true).empty());
  CHECK(RubricProblems(Measured(), false).empty());
}

TEST_CASE("a criterion without a check needs a judge model", "[judge]") {
  Rubric rubric = Measured();
  rubric.criteria[0].check.reset();
  CHECK(RubricProblems(rubric, false).empty());
  const auto problems = RubricProblems(rubric, true);
  REQUIRE(problems.size() == 1);
  CHECK(absl::StrContains(problems[0], "words: expected a check"));
}

TEST_CASE("all problems of a rubric are told together", "[judge]") {
  Rubric rubric = Measured();
  rubric.criteria[0].check->name = "charm";
  rubric.criteria[0].executor = Executor::kProgram;
  rubric.aggregation = Aggregation::kImplicit;
  const auto problems = RubricProblems(rubric, false);
  REQUIRE(problems.size() == 2);
  CHECK(absl::StrContains(problems[0], "implicit"));
  CHECK(absl::StrContains(problems[1], "no measure charm"));
}

}  // namespace
}  // namespace mpo::judge
