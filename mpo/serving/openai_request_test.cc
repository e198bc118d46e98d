// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/openai_request.h"

#include <catch2/catch.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mpo::serving {
namespace {

std::string Chat(const std::string& more = "") {
  return absl::StrCat(
      R"({"model": "m", "messages": [{"role": "user", "content": "Hi"}])", more,
      "}");
}

TEST_CASE("a chat request has the API's defaults", "[serving]") {
  const auto request = ParseChatRequest(Chat());
  REQUIRE(request.ok());
  CHECK(request->model == "m");
  REQUIRE(request->messages.size() == 1);
  CHECK(request->messages[0].content == "Hi");
  CHECK(request->sampling.temperature == 1);
  CHECK(!request->max_tokens_set);
  CHECK(request->n == 1);
  CHECK(!request->seed.has_value());
  CHECK(!request->stream);
}

TEST_CASE("every option of a chat request is read", "[serving]") {
  const auto request = ParseChatRequest(Chat(
      R"(, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9,
      "min_p": 0.1, "top_k": 5, "repetition_penalty": 1.2, "min_tokens": 3,
      "n": 2, "seed": -1, "stop": ["a", "b"], "stream": true,
      "stream_options": {"include_usage": true}, "logprobs": true,
      "top_logprobs": 4, "user": "u", "frequency_penalty": 0,
      "response_format": {"type": "text"}, "tools": [])"));
  REQUIRE(request.ok());
  CHECK(request->max_tokens_set);
  const SamplingOptions expected{.temperature = 0.5,
                                 .top_k = 5,
                                 .top_p = 0.9,
                                 .min_p = 0.1,
                                 .repetition_penalty = 1.2,
                                 .min_new_tokens = 3,
                                 .max_new_tokens = 7};
  CHECK(request->sampling == expected);
  CHECK(request->n == 2);
  CHECK(request->seed == UINT64_MAX);
  CHECK(request->stop == std::vector<std::string>{"a", "b"});
  CHECK(request->stream);
  CHECK(request->include_usage);
  CHECK(request->logprobs);
  CHECK(request->top_logprobs == 4);
}

TEST_CASE("parts of type text make one content", "[serving]") {
  const auto request = ParseChatRequest(
      R"({"model": "m", "messages": [{"role": "developer", "content":
      [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})");
  REQUIRE(request.ok());
  CHECK(request->messages[0].role == "system");
  CHECK(request->messages[0].content == "ab");
}

TEST_CASE("prompts of completions are texts or tokens", "[serving]") {
  const auto prompts = [](const std::string& prompt) {
    const auto request = ParseCompletionRequest(
        absl::StrCat(R"({"model": "m", "prompt": )", prompt, "}"));
    REQUIRE(request.ok());
    CHECK(request->sampling.max_new_tokens == 16);
    return request->prompts;
  };
  CHECK(std::get<std::string>(prompts(R"("x")")[0]) == "x");
  CHECK(prompts(R"(["x", "y"])").size() == 2);
  CHECK(std::get<std::vector<int32_t>>(prompts("[1, 2]")[0]) ==
        std::vector<int32_t>{1, 2});
  CHECK(prompts("[[1], [2, 3]]").size() == 2);
}

TEST_CASE("what is not served is refused by its key", "[serving]") {
  const auto chat = [](const std::string& more) {
    return ParseChatRequest(Chat(more)).status();
  };
  struct Case {
    std::string more, key;
  };
  for (const Case& c : std::vector<Case>{
           {R"(, "temperature": 11)", "temperature"},
           {R"(, "temperature": "hot")", "temperature"},
           {R"(, "max_tokens": 0)", "max_tokens"},
           {R"(, "max_tokens": 2.5)", "max_tokens"},
           {R"(, "n": 0)", "n"},
           {R"(, "stop": [""])", "stop"},
           {R"(, "stop": 3)", "stop"},
           {R"(, "top_logprobs": 3)", "top_logprobs"},
           {R"(, "stream_options": {"include_usage": true})", "stream_options"},
           {R"(, "response_format": {"type": "json_object"})",
            "response_format"},
           {R"(, "tools": [{"type": "function"}])", "tools"},
           {R"(, "presence_penalty": 0.5)", "presence_penalty"},
           {R"(, "max_tokens": 2, "min_tokens": 3)", "min_tokens"},
           {R"(, "surprise": 1)", "surprise"}}) {
    INFO(c.more);
    const absl::Status status = chat(c.more);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StartsWith(std::string(status.message()), c.key + ":"));
  }
  for (const std::string body :
       {"", "[]", "nonsense", R"({"messages": []})", R"({"model": "m"})",
        R"({"model": "m", "messages": [{"role": "tool", "content": "x"}]})",
        R"({"model": "m", "messages": [{"role": "user", "content":
        [{"type": "image_url"}]}]})"}) {
    INFO(body);
    CHECK(ParseChatRequest(body).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
  for (const std::string prompt : {"null", "[]", "[-1]", "[[1], 2]", "{}"}) {
    INFO(prompt);
    CHECK(ParseCompletionRequest(
              absl::StrCat(R"({"model": "m", "prompt": )", prompt, "}"))
              .status()
              .code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(absl::IsInvalidArgument(
      ParseChatRequest(R"({"model": "m", "messages": [{"role": "user",
                       "content": "x"}], "echo": true})")
          .status()));
}

TEST_CASE("no tokens are asked for only with an echo", "[serving]") {
  const auto parse = [](const std::string& rest) {
    return ParseCompletionRequest(absl::StrCat(
        R"({"model": "m", "prompt": "x", "max_tokens": 0)", rest, "}"));
  };
  const auto echoed = parse(R"(, "echo": true)");
  REQUIRE(echoed.ok());
  CHECK(echoed->echo);
  CHECK(echoed->sampling.max_new_tokens == 0);
  CHECK_THAT(std::string(parse("").status().message()),
             Catch::Contains("max_tokens: 0 only together with echo"));
  CHECK(absl::IsInvalidArgument(parse(R"(, "echo": "yes")").status()));
}

TEST_CASE("a body nested too deeply is refused wherever it is nested",
          "[serving]") {
  const std::string lists = std::string(300000, '[') + std::string(300000, ']');
  std::string objects;
  for (int i = 0; i < 300000; ++i) objects += "{\"a\":";
  objects += "1" + std::string(300000, '}');
  for (const std::string key : {"logit_bias", "stop", "tools", "user"}) {
    for (const std::string& deep : {lists, objects}) {
      INFO(key);
      const absl::Status status =
          ParseChatRequest(Chat(absl::StrCat(", \"", key, "\": ", deep)))
              .status();
      CHECK(absl::IsInvalidArgument(status));
      CHECK(absl::StartsWith(status.message(), "body:"));
      CHECK(status.message().size() < 200);
    }
  }
  CHECK(absl::IsInvalidArgument(ParseCompletionRequest(lists).status()));
}

TEST_CASE("what is not served is shown in part", "[serving]") {
  const absl::Status status =
      ParseChatRequest(Chat(absl::StrCat(R"(, "tool_choice": ")",
                                         std::string(100000, 'x'), "\"")))
          .status();
  CHECK(absl::StartsWith(status.message(), "tool_choice:"));
  CHECK(status.message().size() < 200);
  CHECK(absl::IsInvalidArgument(
      ParseChatRequest(R"({"model": "m", "messages": [{"role": "user",
          "content": [{"type": 3, "text": "x"}]}]})")
          .status()));
}

}  // namespace
}  // namespace mpo::serving
