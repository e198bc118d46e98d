// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/tokenizer.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

namespace mpo::text {
namespace {

using nlohmann::json;

absl::StatusOr<Tokenizer> Parsed(const json& spec, std::vector<int32_t> eos) {
  return Tokenizer::Parse(spec.dump(), std::move(eos));
}

void CheckError(const absl::Status& status, absl::StatusCode code,
                const std::string& part) {
  INFO(status);
  CHECK(status.code() == code);
  CHECK(absl::StrContains(status.message(), part));
}

// A byte-fallback tokenizer: <unk>, 256 bytes, then a few characters.
json FallbackJson() {
  json vocab = {{"<unk>", 0}};
  for (int b = 0; b < 256; ++b) vocab[absl::StrFormat("<0x%02X>", b)] = b + 1;
  int id = 257;
  for (const char* token : {"\u2581", "a", "b", "ab", "\u2581ab"})
    vocab[token] = id++;
  return {
      {"added_tokens", {{{"id", 0}, {"content", "<unk>"}, {"special", true}}}},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "Prepend"}, {"prepend", "\u2581"}},
          {{"type", "Replace"},
           {"pattern", {{"String", " "}}},
           {"content", "\u2581"}}}}}},
      {"pre_tokenizer", nullptr},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {{{"type", "Replace"},
           {"pattern", {{"String", "\u2581"}}},
           {"content", " "}},
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
      {"model",
       {{"type", "BPE"},
        {"byte_fallback", true},
        {"unk_token", "<unk>"},
        {"vocab", vocab},
        {"merges", {"a b", "\u2581 ab"}}}}};
}

TEST_CASE("byte_fallback spells what the vocabulary lacks in bytes", "[text]") {
  using Ids = std::vector<int32_t>;
  const auto tokenizer = Parsed(FallbackJson(), {0});
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  CHECK(*tokenizer->Encode("ab \u00e9") == Ids{261, 257, 0xC3 + 1, 0xA9 + 1});
  CHECK(*tokenizer->Decode(*tokenizer->Encode("ab \u00e9")) == "ab \u00e9");
  CHECK(*tokenizer->Decode(*tokenizer->Encode("  ab")) == "  ab");
  // A run that is not UTF-8 is one replacement a byte.
  CHECK(*tokenizer->Decode(Ids{258, 0xC3 + 1, 0xA9 + 1, 0xC3 + 1, 259}) ==
        "a\uFFFD\uFFFD\uFFFDb");
  IncrementalDecoder decoder(*tokenizer);
  CHECK(*decoder.Push(261) == "ab");
  CHECK(*decoder.Push(0xC3 + 1) == "");
  CHECK(*decoder.Push(0) == "");  // Special: does not end the run.
  // Nor does an id of a model's padding.
  CHECK(*decoder.Push(tokenizer->vocab_size()) == "");
  CHECK(*decoder.Push(0xA9 + 1) == "");
  CHECK(*decoder.Push(257) == "\u00e9 ");
  CHECK(*decoder.Push(0xE4 + 1) == "");
  CHECK(decoder.Finish() == "\uFFFD");
}

TEST_CASE("byte_fallback wants all 256 bytes, no pre-tokenizer and its decoder",
          "[text]") {
  using Code = absl::StatusCode;
  const auto broken = [](const std::string& pointer, const json& value) {
    json spec = FallbackJson();
    spec[json::json_pointer(pointer)] = value;
    return Parsed(spec, {0}).status();
  };
  json spec = FallbackJson();
  spec["model"]["vocab"].erase("<0x0A>");
  CheckError(Parsed(spec, {0}).status(), Code::kInvalidArgument, "<0x0A>");
  CheckError(broken("/decoder", {{"type", "ByteLevel"}}), Code::kUnimplemented,
             "ByteFallback");
  CheckError(broken("/model/byte_fallback", false), Code::kUnimplemented,
             "byte");
  CheckError(broken("/pre_tokenizer", {{"type", "Metaspace"}}),
             Code::kUnimplemented, "Metaspace");
  CheckError(broken("/pre_tokenizer", {{"type", "ByteLevel"}}),
             Code::kUnimplemented, "ByteFallback");
  CheckError(broken("/decoder/decoders/3/start", 2), Code::kUnimplemented,
             "decoder");
  CheckError(broken("/decoder/decoders/1/type", "WordPiece"),
             Code::kUnimplemented, "decoder");
  CheckError(broken("/normalizer/normalizers/1/pattern", {{"Regex", "x"}}),
             Code::kUnimplemented, "Replace");
  CheckError(broken("/normalizer/normalizers/0/prepend", ""),
             Code::kInvalidArgument, "prepend");
}

TEST_CASE("A normaliser whose text explodes is stopped", "[text]") {
  json spec = FallbackJson();
  json& steps = spec["normalizer"]["normalizers"];
  steps = json::array();
  for (int i = 0; i < 8; ++i) {
    steps.push_back({{"type", "Replace"},
                     {"pattern", {{"String", "a"}}},
                     {"content", std::string(64, 'a')}});
  }
  CHECK(Parsed(spec, {0})->Encode("a").status().code() ==
        absl::StatusCode::kResourceExhausted);
  for (int i = 0; i < 9; ++i) steps.push_back(steps[0]);
  CheckError(Parsed(spec, {0}).status(), absl::StatusCode::kInvalidArgument,
             "16 steps");
}

}  // namespace
}  // namespace mpo::text
