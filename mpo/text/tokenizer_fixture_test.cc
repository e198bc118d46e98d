// SPDX-License-Identifier: Apache-2.0
// Compares with the reference implementation: tools/make_tokenizer_fixtures.py.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "mpo/text/tokenizer.h"

namespace mpo::text {
namespace {

constexpr char kModel[] = MPO_SOURCE_DIR "/.deps/models/smollm2-135m-instruct";

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
  // Another, larger fixture may be named by hand.
  const char* other = std::getenv("MPO_TOKENIZER_FIXTURE");
  std::ifstream file(other != nullptr ? other
                                      : MPO_SOURCE_DIR
                         "/tests/fixtures/smollm2_tokenizer.jsonl");
  std::string line;
  int strings = 0;
  int wrong = 0;
  while (std::getline(file, line)) {
    const auto expected = nlohmann::json::parse(line);
    const std::string text = expected["text"].get<std::string>();
    const auto ids = tokenizer->Encode(text);
    REQUIRE(ids.ok());
    const bool same_ids = *ids == expected["ids"].get<std::vector<int32_t>>();
    const bool same_text =
        tokenizer->Decode(*ids).value() == expected["decoded"];
    ++strings;
    if (same_ids && same_text) continue;
    if (++wrong <= 10) {
      UNSCOPED_INFO(nlohmann::json(text).dump(-1, ' ', true)
                    << " ids " << same_ids << " text " << same_text);
    }
  }
  CHECK(strings >= 400);
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace mpo::text
