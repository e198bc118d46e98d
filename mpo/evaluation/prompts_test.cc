// SPDX-License-Identifier: Apache-2.0
#include "mpo/evaluation/prompts.h"

#include <catch2/catch.hpp>
#include <set>

#include "mpo/evaluation/answers.h"

namespace mpo::evaluation {
namespace {

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

TEST_CASE("ParsePrompts reads messages and raw prompts", "[evaluation]") {
  auto prompts = ParsePrompts(
      R"({"id":"a","messages":[{"role":"user","content":"Hi."}],)"
      R"("subject":"parks help","key_terms":["parks","help"],"cluster":"c"})"
      "\n\n",
      "f", "essay");
  REQUIRE(prompts.ok());
  REQUIRE(prompts->size() == 1);
  const Prompt& prompt = prompts->front();
  CHECK(prompt.id == "a");
  CHECK(prompt.task == "essay");
  CHECK(prompt.messages == std::vector<ChatMessage>{{"user", "Hi."}});
  CHECK(prompt.key_terms == std::vector<std::string>{"parks", "help"});
  CHECK(prompt.subject == "parks help");
  CHECK(prompt.cluster == "c");

  prompts = ParsePrompts(R"({"id":"b","prompt":"2+2=","reference":"4"})", "f",
                         "math");
  REQUIRE(prompts.ok());
  CHECK(prompts->front().text == "2+2=");
  CHECK(prompts->front().reference == "4");
}

TEST_CASE("ParsePrompts reports every problem with file and line",
          "[evaluation]") {
  auto prompts = ParsePrompts(
      "not json\n"
      R"({"id":"a","prompt":"x","reference":"4"})"
      "\n"
      R"({"id":"a","prompt":"x","referense":"4"})"
      "\n"
      R"({"id":7,"messages":[{"role":"robot","content":"x"}],"reference":"4"})"
      "\n"
      R"({"id":"d","prompt":"","messages":[],"reference":"4"})"
      "\n",
      "f.jsonl", "math");
  CHECK(prompts.status().code() == absl::StatusCode::kInvalidArgument);
  const std::string message = Message(prompts.status());
  CHECK_THAT(message, Catch::Contains("f.jsonl:1: expected a JSON object"));
  CHECK_THAT(message, !Catch::Contains("f.jsonl:2:"));
  CHECK_THAT(message,
             Catch::Contains("f.jsonl:3: unknown field \"referense\""));
  CHECK_THAT(message, Catch::Contains("f.jsonl:3: task math needs a number"));
  CHECK_THAT(message, Catch::Contains("id \"a\" was used on line 2"));
  CHECK_THAT(message, Catch::Contains("f.jsonl:4: id: expected a string"));
  CHECK_THAT(message, Catch::Contains("got \"robot\""));
  CHECK_THAT(message, Catch::Contains("f.jsonl:5: messages: expected a list"));
  CHECK_THAT(message, Catch::Contains("expected either messages or prompt"));
}

TEST_CASE("ParsePrompts checks what the essay's gold will need",
          "[evaluation]") {
  auto prompts = ParsePrompts(
      R"({"id":"a","prompt":"x","subject":"s","key_terms":["k",""]})", "f",
      "essay");
  CHECK_THAT(Message(prompts.status()),
             Catch::Contains("key_terms: expected strings that are not empty"));
  CHECK_THAT(Message(prompts.status()),
             Catch::Contains("needs subject and key_terms"));
}

TEST_CASE("ParsePrompts refuses an empty file", "[evaluation]") {
  auto prompts = ParsePrompts("\n \n", "f", "essay");
  CHECK(prompts.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(Message(prompts.status()) ==
        "f: expected at least one prompt, got none");
}

TEST_CASE("ParsePrompts bounds its report", "[evaluation]") {
  std::string lines;
  for (int i = 0; i < 80; ++i) lines += "x\n";
  auto prompts = ParsePrompts(lines, "f", "essay");
  CHECK_THAT(Message(prompts.status()),
             Catch::Contains("and 30 more problems"));
}

TEST_CASE("ReadPrompts names a missing file", "[evaluation]") {
  auto prompts = ReadPrompts("/nonexistent/p.jsonl", "essay");
  CHECK(prompts.status().code() == absl::StatusCode::kNotFound);
  CHECK_THAT(Message(prompts.status()),
             Catch::Contains("/nonexistent/p.jsonl"));
}

TEST_CASE("The shipped data sets load and never share a prompt",
          "[evaluation]") {
  const std::string data = std::string(MPO_SOURCE_DIR) + "/data/";
  for (const char* task : {"essay", "math"}) {
    auto train = ReadPrompts(data + task + "/train.jsonl", task);
    auto heldout = ReadPrompts(data + task + "/heldout.jsonl", task);
    INFO(train.status() << heldout.status());
    REQUIRE(train.ok());
    REQUIRE(heldout.ok());
    CHECK(train->size() >= 24);
    CHECK(heldout->size() >= 8);
    std::set<std::string> ids;
    for (const auto& set : {*train, *heldout}) {
      for (const Prompt& prompt : set) {
        INFO(prompt.id);
        CHECK(ids.insert(prompt.id).second);
      }
    }
    for (const Prompt& held : *heldout) {
      for (const Prompt& seen : *train) {
        CHECK((held.text != seen.text || held.text.empty()));
        CHECK((held.subject != seen.subject || held.subject.empty()));
      }
    }
  }
}

}  // namespace
}  // namespace mpo::evaluation
