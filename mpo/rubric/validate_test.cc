// SPDX-License-Identifier: Apache-2.0
#include "mpo/rubric/validate.h"

#include <catch2/catch.hpp>
#include <limits>

namespace mpo::rubric {
namespace {

Rubric Valid() {
  Rubric rubric;
  rubric.id = "essay";
  Criterion criterion;
  criterion.id = "tone";
  criterion.text = "Is warm.";
  criterion.check = Check{"words", 0, 9};
  criterion.levels = {{0, "cold"}, {5, "warm"}};
  rubric.criteria = {criterion};
  return rubric;
}

TEST_CASE("Validate finds nothing in a valid rubric", "[rubric]") {
  CHECK(Validate(Valid()).empty());
  Rubric rubric = Valid();
  rubric.scope = "cluster:3";
  CHECK(Validate(rubric).empty());
}

TEST_CASE("Validate reports each fault of a rubric", "[rubric]") {
  Rubric rubric = Valid();
  Criterion& criterion = rubric.criteria[0];
  std::string expected;
  SECTION("id") { rubric.id.clear(), expected = "id is empty"; }
  SECTION("scope") { rubric.scope = "cluster:", expected = "scope must be"; }
  SECTION("none") { rubric.criteria.clear(), expected = "at least one"; }
  SECTION("bad id") { criterion.id = "A b", expected = "a-z, 0-9 and _"; }
  SECTION("twice") {
    rubric.criteria.push_back(criterion), expected = "used twice";
  }
  SECTION("text") { criterion.text.clear(), expected = "text is empty"; }
  SECTION("range") { criterion.minimum = 5, expected = "below maximum"; }
  SECTION("huge") { criterion.maximum = 2'000'000, expected = "within"; }
  SECTION("weight") { criterion.weight = 0, expected = "above 0"; }
  SECTION("level") { criterion.levels[6] = "x", expected = "level 6"; }
  SECTION("ramp") { criterion.check->zero_at = 9, expected = "must differ"; }
  SECTION("not finite") {
    criterion.check->zero_at = std::numeric_limits<double>::infinity();
    expected = "must be finite";
  }
  SECTION("program") {
    criterion.executor = Executor::kProgram;
    criterion.check.reset();
    expected = "needs a check";
  }
  SECTION("no score") {
    criterion.mode = CriterionMode::kShadow;
    expected = "no criterion of mode score";
  }
  const auto problems = Validate(rubric);
  std::string all;
  for (const std::string& problem : problems) all += problem + "\n";
  CHECK_THAT(all, Catch::Contains(expected));
}

}  // namespace
}  // namespace mpo::rubric
