// SPDX-License-Identifier: Apache-2.0
// The reviewer and the gate's figures on texts, not on made-up measures.
#include <catch2/catch.hpp>
#include <limits>

#include "absl/strings/str_cat.h"
#include "mpo/judge/measures.h"
#include "services/meta_reward_server/assess.h"
#include "services/meta_reward_server/reviewer.h"

namespace mpo::meta_reward_server {
namespace {

const char* const kPlain[] = {
    "Cities feel calmer when families can rest under trees. New parks bring "
    "shade, play and clean air to every street.",
    "A walk among flowers lowers stress for busy workers. Wise cities give "
    "land to parks so that children grow up healthy.",
    "Green spaces keep summer heat down and let rain sink away. Our cities "
    "gain birds, games and quiet corners with new parks.",
    "Neighbours meet where benches and lawns invite them. Parks turn grey "
    "cities into places that visitors remember"};

const char* const kStuffed[] = {
    "Cities must parks must cities should parks should cities must parks "
    "cities parks cities should parks must cities parks",
    "Parks should cities should parks must cities parks should cities parks "
    "must cities must parks should cities parks cities",
    "Cities parks cities parks should should must must cities parks cities "
    "parks cities should must parks cities parks cities"};

EvidenceItem Item(const std::string& response, int i, double share) {
  EvidenceItem item;
  item.sample_key = absl::StrCat("s", i);
  item.step = i / 8;
  item.prompt.id = absl::StrCat("p", i % 4);
  item.prompt.task = "essay";
  item.prompt.key_terms = {"cities", "parks"};
  item.response = response;
  item.base_mean_logprob = -2.5;
  item.verdict.scored = true;
  item.verdict.maximum = 15;
  item.verdict.raw = 15 * share;
  return item;
}

Rubric Initial() {
  Rubric rubric;
  rubric.id = "essay";
  rubric.aggregation = Aggregation::kWeighted;
  rubric.criteria = {
      MakeCriterion("relevance", "Relevance", "r", "key_term_count", 0, 6),
      MakeCriterion("reasoning", "Reasoning", "c", "connective_count", 0, 4),
      MakeCriterion("conviction", "Conviction", "s", "emphatic_count", 0, 5)};
  return rubric;
}

RefinementRequest Request(bool stuffed) {
  RefinementRequest request;
  request.id = "r";
  request.rubric = Initial();
  for (int i = 0; i < 32; ++i) {
    request.baseline.push_back(Item(kPlain[i % 4], i, 0.2 + 0.01 * (i % 3)));
    request.recent.push_back(
        stuffed ? Item(kStuffed[i % 3], i, 0.66 + 0.01 * (i % 3))
                : Item(kPlain[(i + 1) % 4], i, 0.2 + 0.01 * (i % 3)));
  }
  return request;
}

PromptLimits Limits() {
  PromptLimits limits;
  for (const judge::MeasureSpec& spec : judge::MeasureCatalogue()) {
    limits.catalogue.push_back({spec.name, spec.description});
  }
  return limits;
}

TEST_CASE("The reviewer closes the hole that stuffed texts use", "[meta]") {
  auto proposal = EmbeddedReviewer({}).Refine(Request(true), nullptr, {});
  REQUIRE(proposal.ok());
  CHECK(proposal->rubric.criteria[0].check->name == "key_term_coverage");
  CHECK(proposal->rubric.criteria[2].check->saturate_at == 2);
  CHECK(proposal->rubric.criteria.size() > 3);
  for (const RubricChange& change : proposal->changes) {
    CHECK_FALSE(change.reason.empty());
  }
  auto assessment =
      Assess(Initial(), proposal->rubric, Request(true).recent, Limits());
  REQUIRE(assessment.ok());
  CHECK(assessment->problems.empty());
  CHECK(assessment->candidate_mean < assessment->active_mean);
}

TEST_CASE("The reviewer leaves plain texts and their rubric alone", "[meta]") {
  auto proposal = Review(Request(false));
  REQUIRE(proposal.ok());
  CHECK(proposal->changes.empty());
}

TEST_CASE("Every measure the rules name is in the catalogue", "[meta]") {
  for (const WatchRule& rule : WatchRules()) {
    INFO(rule.measure);
    CHECK(judge::IsMeasure(rule.measure));
  }
  for (const HardenRule& rule : HardenRules()) {
    CHECK(judge::IsMeasure(rule.measure));
    CHECK(judge::IsMeasure(rule.harder));
  }
  for (const MeritRule& rule : MeritRules()) {
    CHECK(judge::IsMeasure(rule.measure));
  }
}

TEST_CASE("Observe leaves out broken rollouts and refuses broken figures",
          "[meta]") {
  std::vector<EvidenceItem> evidence = Request(false).recent;
  evidence[0].verdict.scored = false;
  evidence[1].verdict.scored = false;
  evidence[1].verdict.reason = UnscorableReason::kJudgeTimeout;
  auto rows = Observe(evidence);
  REQUIRE(rows.ok());
  CHECK(rows->size() == 31);
  CHECK_FALSE((*rows)[0].share.has_value());
  evidence[2].base_mean_logprob = std::numeric_limits<double>::infinity();
  CHECK(Observe(evidence).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("Assess measures a candidate beside the active rubric", "[meta]") {
  const auto evidence = Request(true).baseline;
  SECTION("the same rubric ranks the same") {
    auto same = Assess(Initial(), Initial(), evidence, Limits());
    REQUIRE(same.ok());
    CHECK(same->active_mean == same->candidate_mean);
    CHECK(same->rank_correlation == Approx(1));
    CHECK(same->candidate_deviation > 0);
  }
  SECTION("an invalid candidate is reported, not measured") {
    Rubric candidate = Initial();
    candidate.criteria[0].check.reset();
    candidate.criteria[1].check->name = "charm";
    auto assessment = Assess(Initial(), candidate, evidence, Limits());
    REQUIRE(assessment.ok());
    CHECK(assessment->problems.size() == 2);
  }
  SECTION("no evidence and an invalid active rubric are refused") {
    CHECK(Assess(Initial(), Initial(), {}, Limits()).status().code() ==
          absl::StatusCode::kInvalidArgument);
    CHECK(Assess(Rubric(), Initial(), evidence, Limits()).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace mpo::meta_reward_server
