// SPDX-License-Identifier: Apache-2.0
// Compares with the reference implementation: tools/make_tokenizer_fixtures.py.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "mpo/base/file.h"
#include "mpo/text/tokenizer.h"

namespace mpo::text {
namespace {

constexpr char kModel[] = MPO_SOURCE_DIR "/.deps/models/smollm2-135m-instruct";

struct Outcome {
  int strings = 0;
  int wrong = 0;
  std::string examples;
};

// Compares ids and text of every string of a fixture.
Outcome Compare(const Tokenizer& tokenizer, const std::string& fixture) {
  std::ifstream file(fixture);
  REQUIRE(file.good());
  Outcome outcome;
  std::string line;
  while (std::getline(file, line)) {
    const auto expected = nlohmann::json::parse(line);
    const std::string text = expected["text"].get<std::string>();
    const auto ids = tokenizer.Encode(text);
    REQUIRE(ids.ok());
    const bool same_ids = *ids == expected["ids"].get<std::vector<int32_t>>();
    const bool same_text =
        tokenizer.Decode(*ids).value() == expected["decoded"];
    ++outcome.strings;
    if (same_ids && same_text) continue;
    if (++outcome.wrong <= 10) {
      outcome.examples += nlohmann::json(text).dump(-1, ' ', true) +
                          (same_ids ? " text" : " ids") + " differ\n";
    }
  }
  return outcome;
}

// The checked-in fixture, or a larger one named by hand: MPO_SMOLLM2_FIXTURE,
// MPO_LLAMA3_FIXTURE, MPO_QWEN2_FIXTURE, MPO_LLAMA2_FIXTURE.
std::string Fixture(const char* variable, const std::string& name) {
  const char* other = std::getenv(variable);
  return other != nullptr ? other
                          : MPO_SOURCE_DIR "/tests/fixtures/" + name + ".jsonl";
}

TEST_CASE("Tokenizer gives the reference's ids and text for every string",
          "[text]") {
  if (!std::filesystem::exists(kModel)) {
    WARN("no model at " << kModel << "; nothing compared");
    return;
  }
  const auto tokenizer = Tokenizer::Load(kModel);
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  CHECK(tokenizer->vocab_size() == 49152);
  CHECK(tokenizer->eos_ids() == std::vector<int32_t>{2});
  const Outcome outcome =
      Compare(*tokenizer, Fixture("MPO_SMOLLM2_FIXTURE", "smollm2_tokenizer"));
  INFO(outcome.examples);
  CHECK(outcome.strings >= 400);
  CHECK(outcome.wrong == 0);
}

TEST_CASE(
    "Tokenizers in the form of Llama 2, Llama 3 and Qwen2 give the reference's "
    "ids and text for every string",
    "[text]") {
  for (const auto& [variable, name] :
       {std::pair("MPO_LLAMA3_FIXTURE", "llama3_tokenizer"),
        std::pair("MPO_QWEN2_FIXTURE", "qwen2_tokenizer"),
        std::pair("MPO_LLAMA2_FIXTURE", "llama2_tokenizer")}) {
    const auto json = ReadFile(std::string(MPO_SOURCE_DIR "/tests/fixtures/") +
                               name + ".json");
    REQUIRE(json.ok());
    const auto tokenizer = Tokenizer::Parse(*json, {0});
    INFO(name << ": " << tokenizer.status());
    REQUIRE(tokenizer.ok());
    const Outcome outcome = Compare(*tokenizer, Fixture(variable, name));
    INFO(outcome.examples);
    CHECK(outcome.strings >= 200);
    CHECK(outcome.wrong == 0);
  }
}

}  // namespace
}  // namespace mpo::text
