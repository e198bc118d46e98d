// SPDX-License-Identifier: Apache-2.0
#include "cli/prompt_lines.h"

#include <catch2/catch.hpp>

namespace mpo::cli {
namespace {

std::string Problem(const std::string& text) {
  const auto lines = ParsePromptLines(text, "in.jsonl");
  REQUIRE(absl::IsInvalidArgument(lines.status()));
  return std::string(lines.status().message());
}

}  // namespace

TEST_CASE("ParsePromptLines reads the three kinds of prompt", "[cli]") {
  const auto lines = ParsePromptLines(
      "{\"id\": \"a\", \"prompt\": \"Hello\"}\n\n"
      "{\"id\": 2, \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n"
      "{\"id\": \"c\", \"tokens\": [1, 2]}",
      "in.jsonl");
  REQUIRE(lines.ok());
  REQUIRE(lines->size() == 3);
  CHECK((*lines)[0].text == "Hello");
  CHECK((*lines)[1].id == "2");
  CHECK((*lines)[1].messages == std::vector<ChatMessage>{{"user", "Hi"}});
  CHECK((*lines)[2].tokens == std::vector<int32_t>{1, 2});
}

TEST_CASE("ParsePromptLines takes the prompt files of a run", "[cli]") {
  const auto lines = ParsePromptLines(
      "{\"id\": \"a\", \"prompt\": \"1 + 1 =\", \"reference\": \"2\", "
      "\"cluster\": \"add\"}\n"
      "{\"id\": \"b\", \"messages\": [{\"role\": \"user\", \"content\": "
      "\"Hi\"}], \"subject\": \"s\", \"key_terms\": [\"k\"]}",
      "in.jsonl");
  REQUIRE(lines.ok());
  CHECK((*lines)[0].text == "1 + 1 =");
  CHECK((*lines)[1].messages.size() == 1);
  CHECK(absl::IsInvalidArgument(
      ParseTokenizeLine("{\"text\": \"x\", \"reference\": \"2\"}", "stdin:1")
          .status()));
}

TEST_CASE("token ids that are not whole numbers of 32 bits are refused",
          "[cli]") {
  using Catch::Contains;
  for (const std::string ids :
       {"[1, 4294967313]", "[2147483648]", "[-1]", "[1.5]", "[1.0]", "[true]",
        "[\"1\"]", "[null]", "[[1]]", "[18446744073709551615]", "7",
        "{\"a\": 1}"}) {
    INFO(ids);
    CHECK_THAT(Problem("\n{\"id\": \"a\", \"tokens\": " + ids + "}"),
               Contains("in.jsonl:2: tokens: expected a list of token ids"));
    CHECK(absl::IsInvalidArgument(
        ParseTokenizeLine("{\"ids\": " + ids + "}", "stdin:1").status()));
  }
  const auto most = ParseTokenizeLine("{\"ids\": [0, 2147483647]}", "stdin:1");
  REQUIRE(most.ok());
  CHECK(most->tokens == std::vector<int32_t>{0, 2147483647});
}

TEST_CASE("a line nested too deeply is refused and named", "[cli]") {
  const std::string deep = std::string(300000, '[') + std::string(300000, ']');
  for (const std::string key : {"id", "tokens", "messages", "other"}) {
    CHECK_THAT(Problem("\n{\"" + key + "\": " + deep + "}"),
               Catch::Contains("in.jsonl:2: json is nested deeper"));
  }
}

TEST_CASE("ParsePromptLines names file, line and problem", "[cli]") {
  using Catch::Contains;
  CHECK_THAT(Problem(""), Contains("in.jsonl: expected JSON lines"));
  CHECK_THAT(Problem("\n{"), Contains("in.jsonl:2: not valid json"));
  CHECK_THAT(Problem("[]"), Contains("expected a json object"));
  CHECK_THAT(Problem("{\"id\": \"a\"}"), Contains("got 0"));
  CHECK_THAT(Problem("{\"prompt\": \"x\"}"), Contains("expected an id"));
  CHECK_THAT(Problem("{\"id\": \"a\", \"prompt\": \"x\", \"tokens\": [1]}"),
             Contains("got 2"));
  CHECK_THAT(Problem("{\"id\": \"a\", \"prompt\": 5}"), Contains("in.jsonl:1"));
  CHECK_THAT(Problem("{\"id\": \"a\", \"text\": \"x\"}"),
             Contains("unknown field \"text\""));
  CHECK_THAT(Problem("{\"id\": \"a\", \"messages\": []}"),
             Contains("at least one"));
  CHECK_THAT(Problem("{\"id\": \"a\", \"prompt\": \"x\"}\n"
                     "{\"id\": \"a\", \"prompt\": \"y\"}"),
             Contains("in.jsonl:2: id \"a\" was used before"));
}

TEST_CASE("ParseTokenizeLine reads text, messages or ids", "[cli]") {
  CHECK(ParseTokenizeLine("{\"text\": \"x\"}", "stdin:1")->text == "x");
  CHECK(ParseTokenizeLine("{\"ids\": [5]}", "stdin:1")->tokens ==
        std::vector<int32_t>{5});
  CHECK(absl::IsInvalidArgument(
      ParseTokenizeLine("{\"prompt\": \"x\"}", "stdin:1").status()));
}

}  // namespace mpo::cli
