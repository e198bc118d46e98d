// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/rubric_json.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "services/meta_reward_server/meta_prompts.h"
#include "services/meta_reward_server/review_rules.h"

namespace mpo::meta_reward_server {
namespace {

Rubric Active() {
  Rubric rubric;
  rubric.id = "essay";
  rubric.criteria = {
      MakeCriterion("a", "A", "Asks a.", "key_term_count", 0, 6)};
  rubric.criteria[0].weight = 1.5;
  rubric.criteria[0].tier = Tier::kImportant;
  rubric.criteria[0].levels = {{0, "none"}, {5, "all"}};
  return rubric;
}

TEST_CASE("A rubric survives the way to JSON and back", "[meta]") {
  auto read = ReadRubricJson(WriteRubricJson(Active()), Active());
  REQUIRE(read.ok());
  CHECK(*read == Active());
}

TEST_CASE("ReadRubricJson keeps what belongs to a known id", "[meta]") {
  auto read = ReadRubricJson(
      "```json\n"
      R"({"criteria":[{"id":"a","title":"A","text":"Sharper.","minimum":0,)"
      R"("maximum":5}]})"
      "\n```",
      Active());
  REQUIRE(read.ok());
  const Criterion& criterion = read->criteria[0];
  CHECK(criterion.tier == Tier::kImportant);
  CHECK(criterion.weight == 1.5);
  // The check spoke for the old text.
  CHECK_FALSE(criterion.check.has_value());
}

TEST_CASE("ReadRubricJson lists every deviation", "[meta]") {
  auto read = ReadRubricJson(
      R"({"criteria":[3,{"id":"","title":"T","text":7,"minimum":0.5,)"
      R"("maximum":99999999999999999999,"weight":-1,"levels":{"x":"y"},)"
      R"("check":{"name":"n"},"colour":"red"}]})",
      Active());
  CHECK(read.status().code() == absl::StatusCode::kInvalidArgument);
  const std::string message(read.status().message());
  for (const char* part :
       {"criteria[0]: expected an object", "criteria[1]: id:",
        "criteria[1]: text:", "minimum: expected an integer",
        "maximum: expected an integer",
        "weight:", "levels:", "check:", "unknown field \"colour\""}) {
    CHECK_THAT(message, Catch::Contains(part));
  }
}

TEST_CASE("ReadRubricJson refuses anything around the object", "[meta]") {
  for (const char* answer :
       {"", "null", "[]", "{}", R"({"criteria":[]})", R"({"criteria":{}})",
        R"(Here: {"criteria":[{"id":"a"}]})", R"({"criteria":[],"note":1})"}) {
    INFO(answer);
    CHECK(ReadRubricJson(answer, Active()).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("ReadRubricJson bounds texts", "[meta]") {
  Rubric rubric = Active();
  rubric.criteria[0].text = std::string(kMaxTextChars + 1, 'x');
  CHECK_THAT(
      std::string(
          ReadRubricJson(WriteRubricJson(rubric), Active()).status().message()),
      Catch::Contains("expected at most 2000 characters, got 2001"));
}

TEST_CASE("The schema is JSON and broken UTF-8 does no harm", "[meta]") {
  CHECK(nlohmann::json::accept(RubricJsonSchema()));
  Rubric rubric = Active();
  rubric.criteria[0].title = "\xff\xfe";
  CHECK(nlohmann::json::accept(WriteRubricJson(rubric)));
}

TEST_CASE("Shortened cuts at a code point and says how much is missing",
          "[meta]") {
  int cut = 0;
  CHECK(Shortened("short", 10, &cut) == "short");
  CHECK(cut == 0);
  CHECK(Shortened("na\xc3\xafve", 3, &cut) == "na [4 bytes cut]");
  CHECK(cut == 1);
}

}  // namespace
}  // namespace mpo::meta_reward_server
