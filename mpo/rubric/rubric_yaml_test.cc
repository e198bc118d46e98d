// SPDX-License-Identifier: Apache-2.0
#include "mpo/rubric/rubric_yaml.h"

#include <catch2/catch.hpp>

namespace mpo::rubric {
namespace {

using Catch::Contains;

constexpr char kEssay[] = R"(
id: essay
scope: global
aggregation: weighted
scale: none
criteria:
  - id: discourse
    title: Discourse
    text: How well do the sentences follow from each other?
    minimum: 1
    maximum: 4
    weight: 1.5
    polarity: deduct
    tier: pitfall
    mode: gate
    executor: program
    levels: {0: no connection, 4: "every sentence: leads on"}
    check: {name: connective_count, saturate_at: 5}
  - id: flow
    text: Flow?
)";

}  // namespace

TEST_CASE("ParseYaml reads every key and fills in defaults", "[rubric]") {
  const auto rubric = ParseYaml(kEssay);
  INFO(rubric.status());
  REQUIRE(rubric.ok());
  CHECK(rubric->id == "essay");
  CHECK(rubric->aggregation == Aggregation::kWeighted);
  CHECK(rubric->scale == RewardScale::kNone);
  REQUIRE(rubric->criteria.size() == 2);
  const Criterion& first = rubric->criteria[0];
  CHECK(first.minimum == 1);
  CHECK(first.maximum == 4);
  CHECK(first.weight == 1.5);
  CHECK(first.polarity == Polarity::kDeduct);
  CHECK(first.tier == Tier::kPitfall);
  CHECK(first.mode == CriterionMode::kGate);
  CHECK(first.executor == Executor::kProgram);
  CHECK(first.levels.at(4) == "every sentence: leads on");
  CHECK(first.check == Check{.name = "connective_count", .saturate_at = 5});
  CHECK(rubric->criteria[1].maximum == 5);
  CHECK_FALSE(rubric->criteria[1].check.has_value());
}

TEST_CASE("ToYaml reads back to an equal rubric with an equal digest",
          "[rubric]") {
  Rubric rubric = *ParseYaml(kEssay);
  rubric.criteria[0].text = "a \"b\"\n\\ c: [d] \x01 \xc3\xa9";
  rubric.criteria[0].weight = 0.1;
  rubric.criteria[0].check->zero_at = 1.0 / 3;
  const auto again = ParseYaml(ToYaml(rubric));
  INFO(again.status());
  REQUIRE(again.ok());
  CHECK(*again == rubric);
  CHECK(Sha256Of(*again) == Sha256Of(rubric));
  CHECK(Sha256Of(rubric).size() == 64);
  CHECK(Sha256Of(rubric) != Sha256Of(*ParseYaml(kEssay)));
  CHECK(*ParseYaml(ToYaml(Rubric{})) == Rubric{});
}

TEST_CASE("ParseYaml reports every problem with its line", "[rubric]") {
  const auto rubric = ParseYaml(
      "id: [a]\n"
      "scales: none\n"
      "aggregation: average\n"
      "criteria:\n"
      "  - id: flow\n"
      "    minimum: low\n"
      "    weight: inf\n"
      "    check: {name: x, depth: 1}\n"
      "    levels: {many: x}\n"
      "    id: flow\n"
      "  - 5\n");
  REQUIRE(absl::IsInvalidArgument(rubric.status()));
  const std::string problems(rubric.status().message());
  for (const char* expected :
       {"line 1: id: expected text", "line 2: rubric: unknown key \"scales\"",
        "line 3: aggregation: expected one of raw_sum",
        "line 6: criterion flow: minimum: expected a whole number",
        "line 7: criterion flow: weight: expected a number",
        "line 8: criterion flow: check: unknown key \"depth\"",
        "line 9: criterion flow: levels",
        "line 10: criterion flow: id is given",
        "line 11: criterion 2: expected keys"}) {
    CHECK_THAT(problems, Contains(expected));
  }
}

TEST_CASE("ParseYaml rejects what is no YAML", "[rubric]") {
  CHECK_THAT(std::string(ParseYaml("id: [").status().message()),
             Contains("not valid YAML"));
  CHECK(absl::IsInvalidArgument(ParseYaml("").status()));
  CHECK(absl::IsInvalidArgument(ParseYaml(std::string(2 << 20, 'x')).status()));
}

}  // namespace mpo::rubric
