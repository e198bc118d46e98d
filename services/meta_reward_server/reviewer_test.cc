// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/reviewer.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include <map>
#include <string>
#include "absl/strings/match.h"

namespace mpo::meta_reward_server {
namespace {

Rubric InitialRubric() {
  Rubric rubric;
  rubric.id = "essay";
  rubric.aggregation = Aggregation::kWeighted;
  rubric.criteria = {
      MakeCriterion("relevance", "Relevance", "Key terms appear often.",
                    "key_term_count", 0, 6),
      MakeCriterion("reasoning", "Reasoning", "Uses reasoning words.",
                    "connective_count", 0, 4),
      MakeCriterion("conviction", "Conviction", "Uses strong words.",
                    "emphatic_count", 0, 5)};
  return rubric;
}

// Plain texts of the untrained policy; the index makes them differ a little.
Observation Plain(int i) {
  const double wave = (i % 4 - 1.5) / 1.5;  // -1, -1/3, 1/3, 1
  Observation row;
  row.measures = {{"repeated_bigrams", 0.03 + 0.01 * wave},
                  {"top_word_share", 0.10 + 0.02 * wave},
                  {"key_term_count", 2.0 + wave},
                  {"key_term_coverage", 1.0},
                  {"key_term_density", 0.05 + 0.01 * wave},
                  {"connective_count", 0.2},
                  {"connective_density", 0.005},
                  {"reasons", 0.4},
                  {"emphatic_count", 0.5},
                  {"emphatic_density", 0.01 + 0.005 * wave},
                  {"distinct_word_share", 0.85 + 0.02 * wave},
                  {"base_logprob", -2.4 + 0.1 * wave},
                  {"cross_duplication", 0.02},
                  {"finished", i % 2 == 0 ? 1.0 : 0.0},
                  {"exclamations", 0.0},
                  {"grader_appeals", 0.0},
                  {"words", 32 + wave},
                  {"examples", 0.0},
                  {"conclusion", 0.0},
                  {"distinct_sentences", 1.0}};
  row.share = 0.13 + 0.02 * wave;
  return row;
}

std::vector<Observation> PlainTexts(int n, int from = 0) {
  std::vector<Observation> rows;
  for (int i = 0; i < n; ++i) rows.push_back(Plain(from + i));
  return rows;
}

std::vector<Observation> Changed(std::vector<Observation> rows,
                                 const std::map<std::string, double>& measures,
                                 double share) {
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const auto& [name, value] : measures) rows[i].measures[name] = value;
    rows[i].share = share + 0.01 * static_cast<double>(i % 3);
  }
  return rows;
}

RefinementProposal MustReview(const Rubric& rubric,
                              const std::vector<Observation>& recent,
                              const std::string& memory = "",
                              const ReviewerOptions& options = {}) {
  auto proposal =
      ReviewObservations(rubric, PlainTexts(32), recent, memory, options);
  REQUIRE(proposal.ok());
  return *std::move(proposal);
}

const Criterion* Find(const Rubric& rubric, const std::string& id) {
  for (const Criterion& criterion : rubric.criteria) {
    if (criterion.id == id) return &criterion;
  }
  return nullptr;
}

int Count(const RefinementProposal& proposal, const std::string& action) {
  return static_cast<int>(std::count_if(
      proposal.changes.begin(), proposal.changes.end(),
      [&](const RubricChange& change) { return change.action == action; }));
}

TEST_CASE("Review finds nothing in texts like the untrained policy's",
          "[meta]") {
  const RefinementProposal proposal =
      MustReview(InitialRubric(), PlainTexts(32, 1));
  CHECK(proposal.changes.empty());
  CHECK(proposal.rubric == InitialRubric());
  CHECK(proposal.analyses.size() == WatchRules().size());
}

TEST_CASE("Review hardens a stuffed count and explains it with figures",
          "[meta]") {
  const auto stuffed = Changed(PlainTexts(32),
                               {{"key_term_count", 12.0},
                                {"key_term_density", 0.35},
                                {"top_word_share", 0.4},
                                {"repeated_bigrams", 0.3}},
                               0.6);
  const RefinementProposal proposal = MustReview(InitialRubric(), stuffed);
  const Criterion* relevance = Find(proposal.rubric, "relevance");
  REQUIRE(relevance != nullptr);
  CHECK(relevance->check == Check{"key_term_coverage", 0, 1});
  CHECK(relevance->text != InitialRubric().criteria[0].text);
  REQUIRE_FALSE(proposal.changes.empty());
  CHECK(proposal.changes[0].action == "harden");
  CHECK_THAT(proposal.changes[0].reason,
             Catch::Contains("key_term_count earns 100%"));
  // Density is of the family just hardened; the others are answered.
  CHECK(Find(proposal.rubric, "no_key_term_stuffing") == nullptr);
  CHECK(Find(proposal.rubric, "no_repetition") != nullptr);
  CHECK(Find(proposal.rubric, "no_dominant_word") != nullptr);
  CHECK(Count(proposal, "add") >= 2);

  SECTION("and answers the density at the next review") {
    const RefinementProposal next =
        MustReview(proposal.rubric, stuffed, proposal.memory);
    const Criterion* density = Find(next.rubric, "no_key_term_stuffing");
    REQUIRE(density != nullptr);
    CHECK(density->check->zero_at > density->check->saturate_at);
    CHECK(Count(next, "harden") == 0);
  }
}

TEST_CASE(
    "A counter-criterion leaves base-like texts full marks and the "
    "worst texts a slope",
    "[meta]") {
  auto recent = Changed(PlainTexts(32), {}, 0.5);
  for (size_t i = 0; i < recent.size(); ++i) {
    recent[i].measures["repeated_bigrams"] =
        0.2 + 0.02 * static_cast<double>(i % 10);
  }
  const RefinementProposal proposal = MustReview(InitialRubric(), recent);
  const Criterion* added = Find(proposal.rubric, "no_repetition");
  REQUIRE(added != nullptr);
  CHECK(CheckShare(*added->check, 0.03) == 1.0);
  CHECK(CheckShare(*added->check, 0.2) > 0.0);
  CHECK(added->weight == 1.0);
}

TEST_CASE("A shift that does not pay is not answered", "[meta]") {
  auto recent = Changed(PlainTexts(32), {{"repeated_bigrams", 0.3}}, 0.05);
  const RefinementProposal proposal = MustReview(InitialRubric(), recent);
  CHECK(Find(proposal.rubric, "no_repetition") == nullptr);
}

TEST_CASE(
    "A ramp that a collapsed policy has left is widened so that a "
    "slope exists again",
    "[meta]") {
  Rubric rubric = InitialRubric();
  rubric.criteria.push_back(MakeCriterion("no_repetition", "t", "t",
                                          "repeated_bigrams", 0.10, 0.045));
  auto collapsed = PlainTexts(32);
  for (size_t i = 0; i < collapsed.size(); ++i) {
    collapsed[i].measures["repeated_bigrams"] =
        0.5 + 0.04 * static_cast<double>(i % 10);
    collapsed[i].share = 0.6 + 0.01 * static_cast<double>(i % 10);
  }
  const RefinementProposal proposal =
      MustReview(rubric, collapsed, R"({"z":{"repeated_bigrams":1.0}})");
  const Criterion* widened = Find(proposal.rubric, "no_repetition");
  REQUIRE(widened != nullptr);
  CHECK(widened->check->zero_at > 0.75);
  CHECK(widened->weight == 1.0);
  CHECK(Count(proposal, "widen") == 1);
  CHECK(CheckShare(*widened->check, 0.5) > CheckShare(*widened->check, 0.7));
}

TEST_CASE("Texts that are shorter because they end are not asked to be longer",
          "[meta]") {
  const double words = MomentsOf(Column(PlainTexts(32), "words")).mean;
  const auto shorter = [&](double finished) {
    auto texts = Changed(PlainTexts(32),
                         {{"words", words - 12}, {"finished", finished}}, 0.5);
    // Shorter ones earn more, so that the shift pays.
    for (size_t i = 0; i < texts.size(); ++i)
      texts[i].measures["words"] -= static_cast<double>(i % 3) * 4;
    return MustReview(InitialRubric(), texts);
  };
  const double before = MomentsOf(Column(PlainTexts(32), "finished")).mean;
  const RefinementProposal cut = shorter(before);
  CHECK(Find(cut.rubric, "long_enough") != nullptr);
  const RefinementProposal ended = shorter(before + 0.2);
  CHECK(Find(ended.rubric, "long_enough") == nullptr);
  CHECK(absl::StrContains(ended.analyses.back(), "words: base mean"));
  CHECK(absl::StrContains(ended.analyses.back(), "excused, finished improved"));
}

TEST_CASE("Weights rise only while a shift does not shrink", "[meta]") {
  Rubric rubric = InitialRubric();
  rubric.criteria.push_back(MakeCriterion("no_repetition", "t", "t",
                                          "repeated_bigrams", 0.30, 0.045));
  const auto recent = Changed(PlainTexts(32), {{"repeated_bigrams", 0.1}}, 0.3);
  // z of this evidence is (0.1 - 0.03) / 0.03.
  SECTION("falling: left alone") {
    const auto proposal =
        MustReview(rubric, recent, R"({"z":{"repeated_bigrams":4.0}})");
    CHECK(Find(proposal.rubric, "no_repetition")->weight == 1.0);
    CHECK(Count(proposal, "raise") == 0);
  }
  SECTION("steady: raised") {
    const auto proposal =
        MustReview(rubric, recent, R"({"z":{"repeated_bigrams":2.4}})");
    CHECK(Find(proposal.rubric, "no_repetition")->weight == 1.5);
    CHECK(Count(proposal, "raise") == 1);
  }
  SECTION("at the limit: left alone") {
    rubric.criteria.back().weight = 3.0;
    const auto proposal = MustReview(rubric, recent);
    CHECK(Find(proposal.rubric, "no_repetition")->weight == 3.0);
  }
  SECTION("under an aggregation that ignores weights: left alone") {
    rubric.aggregation = Aggregation::kRawSum;
    const auto proposal = MustReview(rubric, recent);
    CHECK(Find(proposal.rubric, "no_repetition")->weight == 1.0);
  }
}

TEST_CASE("A merit that fell below the untrained policy is asked for",
          "[meta]") {
  const auto recent = Changed(PlainTexts(32), {{"finished", 0.0}}, 0.13);
  const RefinementProposal added = MustReview(InitialRubric(), recent);
  const Criterion* finished = Find(added.rubric, "finished_sentence");
  REQUIRE(finished != nullptr);
  CHECK(finished->check->name == "finished");
  const RefinementProposal raised =
      MustReview(added.rubric, recent, added.memory);
  CHECK(Find(raised.rubric, "finished_sentence")->weight > 1.0);
}

TEST_CASE("The bar is raised where the rubric no longer separates answers",
          "[meta]") {
  auto recent = Changed(PlainTexts(32), {}, 0.9);
  for (size_t i = 0; i < recent.size(); ++i) {
    recent[i].measures["examples"] = static_cast<double>(i % 3);
  }
  const RefinementProposal proposal = MustReview(InitialRubric(), recent);
  REQUIRE(proposal.changes.size() == 1);
  CHECK(proposal.changes[0].action == "add");
  CHECK(proposal.changes[0].criterion == "examples");
}

TEST_CASE("Too many criteria: those that separate least are dropped",
          "[meta]") {
  ReviewerOptions options;
  options.max_criteria = 2;
  const RefinementProposal proposal =
      MustReview(InitialRubric(), PlainTexts(32, 1), "", options);
  CHECK(proposal.rubric.criteria.size() == 2);
  CHECK(Find(proposal.rubric, "relevance") != nullptr);  // The one that varies.
  CHECK(Count(proposal, "drop") == 1);
}

TEST_CASE(
    "Different evidence grows different rubrics, equal evidence equal "
    "ones",
    "[meta]") {
  const auto one = Changed(PlainTexts(32), {{"repeated_bigrams", 0.3}}, 0.6);
  const auto two = Changed(PlainTexts(32), {{"base_logprob", -5.0}}, 0.6);
  const auto first = MustReview(InitialRubric(), one);
  CHECK(first.rubric != MustReview(InitialRubric(), two).rubric);
  const auto again = MustReview(InitialRubric(), one);
  CHECK(first.rubric == again.rubric);
  CHECK(first.memory == again.memory);
  CHECK(first.analyses == again.analyses);
}

TEST_CASE("An unscorable response still counts as text", "[meta]") {
  auto recent = Changed(PlainTexts(32), {{"repeated_bigrams", 0.3}}, 0.6);
  for (size_t i = 0; i < recent.size(); i += 2) recent[i].share.reset();
  CHECK(Find(MustReview(InitialRubric(), recent).rubric, "no_repetition") !=
        nullptr);
}

TEST_CASE("Review refuses missing evidence and a strange memory", "[meta]") {
  const auto code = [](const auto& result) { return result.status().code(); };
  CHECK(code(ReviewObservations(InitialRubric(), {}, PlainTexts(9), "")) ==
        absl::StatusCode::kInvalidArgument);
  CHECK(code(ReviewObservations(InitialRubric(), PlainTexts(9), {}, "")) ==
        absl::StatusCode::kInvalidArgument);
  for (const char* memory : {"{", "[]", R"({"z":{"a":"b"}})"}) {
    CHECK(code(ReviewObservations(InitialRubric(), PlainTexts(9), PlainTexts(9),
                                  memory)) ==
          absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("Too little evidence proposes nothing and keeps the memory",
          "[meta]") {
  const auto few = Changed(PlainTexts(4), {{"repeated_bigrams", 0.3}}, 0.6);
  const auto proposal =
      MustReview(InitialRubric(), few, R"({"z":{"words":1.0}})");
  CHECK(proposal.changes.empty());
  CHECK(proposal.memory == R"({"z":{"words":1.0}})");
  CHECK_THAT(proposal.analyses.at(0), Catch::Contains("too little evidence"));
}

}  // namespace
}  // namespace mpo::meta_reward_server
