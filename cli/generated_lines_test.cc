// SPDX-License-Identifier: Apache-2.0
#include "cli/generated_lines.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/tiny_tokenizer.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::json;

text::Tokenizer TinyTokenizer() {
  const auto directory = std::filesystem::temp_directory_path() /
                         ("generated_lines_test_" + std::to_string(getpid()));
  std::filesystem::create_directories(directory);
  REQUIRE(text::WriteTinyTokenizer(directory).ok());
  auto tokenizer = text::Tokenizer::Load(directory);
  std::filesystem::remove_all(directory);
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

generation::GenerationResult Result() {
  generation::GenerationResult result;
  result.id = "a";
  result.tokens = {'H', 'i'};
  result.logprobs = {0, 0};
  result.untempered_logprobs = {-0.5, -0.25};
  result.finish_reason = FinishReason::kLength;
  return result;
}

TEST_CASE("a generated line has both kinds of log-probs if asked for",
          "[cli]") {
  const text::Tokenizer tokenizer = TinyTokenizer();
  CHECK(GeneratedLine(Result(), tokenizer, std::nullopt, false) ==
        "{\"id\":\"a\",\"tokens\":[72,105],\"text\":\"Hi\","
        "\"finish_reason\":\"length\"}\n");
  const Json line =
      Json::parse(GeneratedLine(Result(), tokenizer, "H", /*logprobs=*/true));
  CHECK(line["text"] == "H");
  CHECK(line["logprobs"] == Json{0.0, 0.0});
  CHECK(line["untempered_logprobs"] == Json{-0.5, -0.25});
}

TEST_CASE("a token that the tokenizer lacks is no text in a generated line",
          "[cli]") {
  auto result = Result();
  result.tokens.push_back(text::kTinyVocabSize + 3);
  const Json line =
      Json::parse(GeneratedLine(result, TinyTokenizer(), std::nullopt, false));
  CHECK(line["text"] == "Hi");
  CHECK(line["tokens"].size() == 3);
  CHECK(!line.contains("error"));
  result.tokens[0] = -1;
  CHECK(Json::parse(GeneratedLine(result, TinyTokenizer(), std::nullopt,
                                  false))["error"]
            .get<std::string>()
            .find("-1") != std::string::npos);
}

TEST_CASE("failed samples are counted and the first is told", "[cli]") {
  std::vector<generation::GenerationResult> results = {Result(), Result(),
                                                       Result()};
  CHECK(FailureOf(results, "out.jsonl").ok());
  results[1].status = absl::InvalidArgumentError("prompt 'b' is too long");
  results[1].finish_reason = FinishReason::kFailed;
  results[2].status = absl::DataLossError("NaN");
  const absl::Status status = FailureOf(results, "out.jsonl");
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()) ==
        "2 of 3 samples failed (\"error\" in out.jsonl); the first: prompt 'b' "
        "is too long");
  const Json line = Json::parse(
      GeneratedLine(results[1], TinyTokenizer(), std::nullopt, false));
  CHECK(line["error"] == "prompt 'b' is too long");
  CHECK(line["finish_reason"] == "failed");
}

}  // namespace
}  // namespace mpo::cli
