// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/meta_judge.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "mpo/judge/fake_chat_model.h"
#include "services/meta_reward_server/review_rules.h"

namespace mpo::meta_reward_server {
namespace {

using judge::ChatOptions;
using judge::FakeChatModel;

RefinementRequest Request(int samples = 2) {
  RefinementRequest request;
  request.id = "r1";
  request.task = "essay";
  request.rubric.id = "essay";
  request.rubric.criteria = {MakeCriterion("relevance", "Relevance",
                                           "Keeps to the subject.",
                                           "key_term_count", 0, 6)};
  request.memory = "kept";
  for (int i = 0; i < samples; ++i) {
    EvidenceItem item;
    item.sample_key = absl::StrCat("sample", i);
    item.prompt.messages = {{"user", "Persuade the reader."}};
    item.response = absl::StrCat("response number ", i);
    item.verdict.scored = true;
    item.verdict.reward = i;
    item.verdict.raw = i;
    item.verdict.maximum = 5;
    item.verdict.criteria = {{"relevance", 1.0 * i, 0, 5, "names the terms"}};
    request.recent.push_back(item);
  }
  return request;
}

const char kNewRubric[] = R"({"criteria": [
  {"id": "relevance", "title": "Relevance", "text": "Argues the claim.",
   "minimum": 0, "maximum": 5, "weight": 2,
   "levels": {"0": "does not", "5": "does"},
   "check": {"name": "key_term_coverage", "zero_at": 0, "saturate_at": 1}},
  {"id": "variety", "title": "Variety", "text": "Repeats nothing.",
   "minimum": 0, "maximum": 3,
   "check": {"name": "repeated_bigrams", "zero_at": 0.3, "saturate_at": 0}}]})";

MetaJudgeOptions Options() {
  MetaJudgeOptions options;
  options.concurrency = 1;
  options.limits.catalogue = {{"key_term_coverage", "share of key terms"},
                              {"key_term_count", "mentions"},
                              {"repeated_bigrams", "share of word pairs"}};
  return options;
}

bool IsMerge(const std::vector<ChatMessage>& messages) {
  return messages.back().content.find("Merge them") != std::string::npos;
}

// Analyses in words; answers every request for a rubric with `refined`, the
// merge with `merged`.
FakeChatModel Answering(std::string refined, std::string merged) {
  return FakeChatModel(
      [=](const std::vector<ChatMessage>& messages,
          const ChatOptions& options) -> absl::StatusOr<std::string> {
        if (options.response_schema.empty())
          return std::string("the weakness is");
        return IsMerge(messages) ? merged : refined;
      });
}

absl::StatusOr<RefinementProposal> Run(judge::ChatModel& model,
                                       const RefinementRequest& request,
                                       MetaJudgeOptions options = Options()) {
  return MetaJudge(model, std::move(options)).Refine(request, nullptr, {});
}

TEST_CASE("MetaJudge analyses, refines and merges with the rubric in use",
          "[meta]") {
  FakeChatModel model = Answering(kNewRubric, kNewRubric);
  std::vector<std::string> phases;
  auto proposal =
      MetaJudge(model, Options())
          .Refine(Request(),
                  [&](const RefinementProgress& progress) {
                    phases.push_back(absl::StrCat(progress.phase, progress.done,
                                                  "/", progress.total));
                  },
                  {});
  REQUIRE(proposal.ok());
  const auto& criteria = proposal->rubric.criteria;
  REQUIRE(criteria.size() == 2);
  CHECK(criteria[0].weight == 2);
  CHECK(criteria[0].levels.at(5) == "does");
  CHECK(criteria[0].check == Check{"key_term_coverage", 0, 1});
  CHECK(criteria[1].maximum == 3);
  CHECK(proposal->rubric.id == "essay");
  REQUIRE(proposal->changes.size() == 2);
  CHECK(proposal->changes[0].action == "rewrite");
  CHECK(proposal->changes[1].action == "add");
  CHECK_THAT(proposal->changes[1].reason,
             Catch::Contains("in 2 of 2 refinements"));
  CHECK(proposal->analyses.size() == 2);
  CHECK(proposal->memory == "kept");
  CHECK(phases == std::vector<std::string>{
                      "analyse1/2", "refine1/2", "analyse2/2", "refine2/2",
                      "merge0/1", "merge1/1", "validate0/1", "validate1/1"});

  const auto requests = model.requests();
  REQUIRE(requests.size() == 5);
  const std::string& analysis = requests[0].messages[1].content;
  CHECK_THAT(analysis, Catch::Contains("names the terms"));
  CHECK_THAT(analysis, Catch::Contains("\"maximum_total\": 5"));
  CHECK_THAT(analysis, Catch::Contains("Keeps to the subject."));
  CHECK(requests[1].messages.size() == 4);
  const std::string& merge = requests[4].messages[1].content;
  CHECK_THAT(merge, Catch::Contains("Keeps to the subject."));
  CHECK_THAT(merge, Catch::Contains("Refinement 2:"));
  CHECK_THAT(merge, Catch::Contains("repeated_bigrams"));
}

TEST_CASE("MetaJudge proposes nothing where the merge keeps the rubric",
          "[meta]") {
  const std::string same =
      R"({"criteria":[{"id":"relevance","title":"Relevance",)"
      R"("text":"Keeps to the subject.","minimum":0,"maximum":5}]})";
  FakeChatModel model = Answering(kNewRubric, same);
  auto proposal = Run(model, Request());
  REQUIRE(proposal.ok());
  CHECK(proposal->changes.empty());
  CHECK(proposal->rubric == Request().rubric);
}

TEST_CASE("MetaJudge leaves out refinements that are no rubric and says so",
          "[meta]") {
  int refinements = 0;
  FakeChatModel model(
      [&](const std::vector<ChatMessage>& messages,
          const ChatOptions& options) -> absl::StatusOr<std::string> {
        if (options.response_schema.empty()) return std::string("analysis");
        if (IsMerge(messages)) return std::string(kNewRubric);
        return std::string(refinements++ == 0 ? "I would rather not."
                                              : kNewRubric);
      });
  auto proposal = Run(model, Request());
  REQUIRE(proposal.ok());
  CHECK_THAT(proposal->analyses[0], Catch::Contains("refinement left out"));
  CHECK_THAT(proposal->changes[1].reason,
             Catch::Contains("in 1 of 1 refinements"));
}

TEST_CASE("MetaJudge refuses a proposal that is not valid", "[meta]") {
  std::string merged = kNewRubric;
  std::string refined = kNewRubric;
  MetaJudgeOptions options = Options();
  std::string expected;
  SECTION("garbage in every refinement") {
    refined = "{}";
    expected = "none of the 2 refinements was a rubric";
  }
  SECTION("garbage in the merge") {
    merged = "Sure! {\"criteria\": []}";
    expected = "cannot be read";
  }
  SECTION("zero criteria") {
    merged = R"({"criteria": []})";
    expected = "at least one criterion";
  }
  SECTION("too many criteria") {
    options.limits.max_criteria = 1;
    expected = "at most 1 criteria, got 2";
  }
  SECTION("a check out of no catalogue") {
    options.limits.catalogue.pop_back();
    expected = "\"repeated_bigrams\" is not in the catalogue";
  }
  SECTION("no check where the grader is embedded") {
    options.limits.require_checks = true;
    merged = R"({"criteria":[{"id":"tone","title":"Tone","text":"Is warm.",)"
             R"("minimum":0,"maximum":5}]})";
    expected = "criterion tone: the embedded grader needs a check";
  }
  SECTION("an empty range") {
    merged = R"({"criteria":[{"id":"tone","title":"Tone","text":"Is warm.",)"
             R"("minimum":5,"maximum":5}]})";
    expected = "tone";
  }
  FakeChatModel model = Answering(refined, merged);
  const auto proposal = Run(model, Request(), options);
  CHECK(proposal.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(std::string(proposal.status().message()),
             Catch::Contains(expected));
}

TEST_CASE("MetaJudge drops near-duplicate criteria of the merge", "[meta]") {
  const std::string merged = R"({"criteria":[
    {"id":"structure","title":"Structure","minimum":0,"maximum":5,
     "text":"Sentences follow from each other."},
    {"id":"flow","title":"Structure","minimum":0,"maximum":5,
     "text":"The sentences follow from each other."}]})";
  FakeChatModel model = Answering(kNewRubric, merged);
  auto proposal = Run(model, Request());
  REQUIRE(proposal.ok());
  CHECK(proposal->rubric.criteria.size() == 1);
  CHECK_THAT(proposal->analyses.back(), Catch::Contains("dropped: flow"));
}

TEST_CASE("MetaJudge reports everything it had to cut", "[meta]") {
  MetaJudgeOptions options = Options();
  options.limits.max_response_chars = 4;
  options.max_merge_chars = 10;
  FakeChatModel model = Answering(kNewRubric, kNewRubric);
  auto proposal = Run(model, Request(3), options);
  REQUIRE(proposal.ok());
  CHECK_THAT(proposal->analyses[0],
             Catch::Contains("texts of this response were cut"));
  CHECK_THAT(proposal->analyses.back(),
             Catch::Contains("2 of 3 refinements left out"));
  CHECK_THAT(model.requests()[0].messages[1].content,
             Catch::Contains("bytes cut]"));
}

TEST_CASE("MetaJudge spreads its samples over the order by score", "[meta]") {
  MetaJudgeOptions options = Options();
  options.max_samples = 3;
  RefinementRequest request = Request(9);
  request.recent[4].verdict.scored = false;
  FakeChatModel model = Answering(kNewRubric, kNewRubric);
  auto proposal = Run(model, request, options);
  REQUIRE(proposal.ok());
  REQUIRE(proposal->analyses.size() == 3);
  CHECK_THAT(proposal->analyses.front(), Catch::StartsWith("sample0:"));
  CHECK_THAT(proposal->analyses.back(), Catch::StartsWith("sample8:"));
}

TEST_CASE("MetaJudge works the samples side by side to the same end",
          "[meta]") {
  FakeChatModel one = Answering(kNewRubric, kNewRubric);
  FakeChatModel many = Answering(kNewRubric, kNewRubric);
  MetaJudgeOptions parallel = Options();
  parallel.concurrency = 4;
  auto a = Run(one, Request(8));
  auto b = Run(many, Request(8), parallel);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  CHECK(a->rubric == b->rubric);
  CHECK(a->analyses == b->analyses);
}

TEST_CASE("MetaJudge answers UNAVAILABLE when the model does not", "[meta]") {
  for (const absl::Status& failure :
       {absl::UnavailableError("refused"), absl::DeadlineExceededError("late"),
        absl::ResourceExhaustedError("429"), absl::DataLossError("cut")}) {
    FakeChatModel model(
        [&](const auto&, const auto&) -> absl::StatusOr<std::string> {
          return failure;
        });
    CHECK(Run(model, Request()).status().code() ==
          absl::StatusCode::kUnavailable);
    CHECK(model.requests().size() == 1);
  }
  FakeChatModel model(
      [](const auto&, const auto&) -> absl::StatusOr<std::string> {
        return absl::FailedPreconditionError("401");
      });
  CHECK(Run(model, Request()).status().code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("MetaJudge stops when told and needs scored evidence", "[meta]") {
  FakeChatModel model = Answering(kNewRubric, kNewRubric);
  std::stop_source stop;
  stop.request_stop();
  CHECK(MetaJudge(model, Options())
            .Refine(Request(), nullptr, stop.get_token())
            .status()
            .code() == absl::StatusCode::kCancelled);
  RefinementRequest unscored = Request();
  for (EvidenceItem& item : unscored.recent) item.verdict.scored = false;
  CHECK(Run(model, unscored).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(model.requests().empty());
}

}  // namespace
}  // namespace mpo::meta_reward_server
