// SPDX-License-Identifier: Apache-2.0
#include "mpo/evaluation/gold.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "mpo/evaluation/subject.h"

namespace mpo::evaluation {
namespace {

Prompt Essay() {
  Prompt prompt;
  prompt.id = "parks";
  prompt.task = "essay";
  prompt.subject = "cities should build more parks";
  prompt.key_terms = {"cities", "parks"};
  return prompt;
}

const char kGood[] =
    "Cities grow healthier when green spaces give families room to play and "
    "rest. Well planned parks also cool crowded streets during summer and "
    "draw neighbours together.";
const char kStuffed[] =
    "Cities should cities should parks should cities should parks should "
    "cities should parks should cities should parks should cities should";

double Part(const GoldScore& gold, const std::string& name) {
  for (const auto& [part, value] : gold.parts) {
    if (part == name) return value;
  }
  FAIL("no part " << name);
  return 0;
}

TEST_CASE("Gold is high for a plain good essay and low for stuffing",
          "[evaluation]") {
  const BaseStatistics good{-2.0, 3.5, 2.0};
  const BaseStatistics stuffed{-4.0, 7.0, 0.5};
  auto high = Gold(Essay(), kGood, good);
  auto low = Gold(Essay(), kStuffed, stuffed);
  REQUIRE(high.ok());
  REQUIRE(low.ok());
  CHECK(high->value > 8.5);
  CHECK(low->value < 1.5);
  CHECK(high->parts.size() == 6);
}

TEST_CASE("Gold is the geometric mean of its parts, each floored",
          "[evaluation]") {
  auto gold = Gold(Essay(), kGood, {-2.0, 5.0, 0.6});
  REQUIRE(gold.ok());
  CHECK(Part(*gold, "natural") == Approx(0.5));
  CHECK(Part(*gold, "about_subject") == Approx(0.5).margin(0.001));
  double logs = 0;
  for (const auto& [name, part] : gold->parts) {
    logs += std::log(std::max(0.02, part));
  }
  CHECK(gold->value == Approx(10 * std::exp(logs / 6)));
}

TEST_CASE("Each part of gold sees the fault it is for", "[evaluation]") {
  const BaseStatistics base{-2.0, 3.5, 2.0};
  SECTION("an empty response gets the floor") {
    auto gold = Gold(Essay(), "", base);
    REQUIRE(gold.ok());
    CHECK(gold->value == Approx(0.2));
  }
  SECTION("a missing key term halves its part") {
    auto gold = Gold(Essay(), "Every park makes people happy all year.", base);
    REQUIRE(gold.ok());
    CHECK(Part(*gold, "key_terms_once") == 0.0);
    gold = Gold(Essay(), "More parks make people happy all year.", base);
    CHECK(Part(*gold, "key_terms_once") == 0.5);
  }
  SECTION("repetition compresses") {
    CHECK(Part(*Gold(Essay(), kStuffed, base), "not_redundant") <
          Part(*Gold(Essay(), kGood, base), "not_redundant"));
  }
  SECTION("an unfinished sentence does not count") {
    auto gold =
        Gold(Essay(), "Parks in cities make people happy. And so", base);
    REQUIRE(gold.ok());
    CHECK(Part(*gold, "sentence_shape") == Approx(6.0 / 8));
  }
  SECTION("a text that says nothing of the claim loses the sixth part") {
    auto gold = Gold(Essay(), kGood, {-2.0, 3.5, -0.4});
    REQUIRE(gold.ok());
    CHECK(Part(*gold, "about_subject") < 0.1);
    CHECK(gold->value < 10 * std::pow(0.1, 1.0 / 6));
  }
  SECTION("so does a text that copies the claim") {
    auto gold = Gold(Essay(), kGood, {-2.0, 3.5, 5.0});
    REQUIRE(gold.ok());
    CHECK(Part(*gold, "about_subject") < 0.02);
  }
}

TEST_CASE("The subject is probed as a conclusion, with and without the text",
          "[evaluation]") {
  const SubjectProbe probe = MakeSubjectProbe(Essay(), "Parks help.");
  CHECK(probe.alone == "In short:");
  CHECK(probe.after_text == "Parks help.\nIn short:");
  CHECK(probe.target == " cities should build more parks");
}

TEST_CASE("Gold of math is 10 for the right number, else 0", "[evaluation]") {
  Prompt prompt;
  prompt.id = std::string("m");
  prompt.task = std::string("math");
  prompt.reference = std::string("7");
  CHECK(Gold(prompt, " 3 + 4 = 7\n", {})->value == 10);
  CHECK(Gold(prompt, " 3 + 4 = 8\n", {})->value == 0);
  CHECK(Gold(prompt, "", {})->value == 0);
}

TEST_CASE("Gold refuses what it cannot measure and names the prompt",
          "[evaluation]") {
  Prompt prompt = Essay();
  BaseStatistics statistics;
  SECTION("unknown task") { prompt.task = std::string("poem"); }
  SECTION("no key terms") { prompt.key_terms.clear(); }
  SECTION("no subject") { prompt.subject.clear(); }
  SECTION("math without a number") {
    prompt.task = std::string("math");
    prompt.reference = "seven";
  }
  SECTION("statistics that are not finite") {
    statistics.subject_gain = std::numeric_limits<double>::quiet_NaN();
  }
  const auto gold = Gold(prompt, kGood, statistics);
  CHECK(gold.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(gold.status().message()), Catch::Contains("parks"));
}

}  // namespace
}  // namespace mpo::evaluation
