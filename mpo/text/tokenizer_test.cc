// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/tokenizer.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "mpo/base/file.h"
#include "mpo/text/utf8.h"
#include "tests/support/tiny_tokenizer.h"

namespace mpo::text {
namespace {

using nlohmann::json;

struct TemporaryDir {
  std::filesystem::path path;
  TemporaryDir() {
    char name[] = "/tmp/mpo_text_XXXXXX";
    path = mkdtemp(name);
  }
  ~TemporaryDir() { std::filesystem::remove_all(path); }
};

json TinyJson() {
  TemporaryDir dir;
  REQUIRE(WriteTinyTokenizer(dir.path).ok());
  return json::parse(*ReadFile(dir.path / "tokenizer.json"));
}

absl::StatusOr<Tokenizer> Parsed(const json& spec,
                                 std::vector<int32_t> eos = {kTinyImEnd}) {
  return Tokenizer::Parse(spec.dump(), std::move(eos));
}

void CheckError(const absl::Status& status, absl::StatusCode code,
                const std::string& part) {
  INFO(status);
  CHECK(status.code() == code);
  CHECK(absl::StrContains(status.message(), part));
}

// Tokenizer with a few merges: h e l o -> he, ll, hell, hello.
json WithMerges() {
  json spec = TinyJson();
  int id = kTinyVocabSize;
  for (const char* token : {"he", "ll", "hell", "hello", "Ġhello"}) {
    spec["model"]["vocab"][token] = id++;
  }
  spec["model"]["merges"] = {"h e", "l l", "he ll", {"hell", "o"}, "Ġ hello"};
  return spec;
}

TEST_CASE("Tokenizer loads the tiny tokenizer and goes both ways", "[text]") {
  TemporaryDir dir;
  REQUIRE(WriteTinyTokenizer(dir.path).ok());
  const auto tokenizer = Tokenizer::Load(dir.path);
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  CHECK(tokenizer->vocab_size() == kTinyVocabSize);
  CHECK(tokenizer->eos_ids() == std::vector<int32_t>{kTinyImEnd});
  const std::string text = std::string("a\0é\xF0\x9F\x98\x80", 8) + " 12";
  const auto ids = tokenizer->Encode(text + "<|im_end|>");
  REQUIRE(ids.ok());
  CHECK(ids->size() == text.size() + 1);
  CHECK(ids->back() == kTinyImEnd);
  CHECK(*tokenizer->Decode(*ids) == text);
  CHECK(*tokenizer->Decode(*ids, /*skip_special=*/false) ==
        text + "<|im_end|>");
  CHECK(tokenizer->IsSpecial(kTinyImStart));
  CHECK_FALSE(tokenizer->IsSpecial('a'));
  CHECK(tokenizer->IdOf("<|im_start|>") == kTinyImStart);
  CHECK(tokenizer->IdOf("Ġ") == ' ');
  CHECK_FALSE(tokenizer->IdOf("absent").has_value());
  CHECK(tokenizer->Encode("")->empty());
}

TEST_CASE("Tokenizer applies merges by rank inside words", "[text]") {
  auto tokenizer = Parsed(WithMerges());
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  CHECK(*tokenizer->Encode("hello hello") ==
        std::vector<int32_t>{kTinyVocabSize + 3, kTinyVocabSize + 4});
  CHECK(*tokenizer->Encode("helllo") ==
        std::vector<int32_t>{kTinyVocabSize + 2, 'l', 'o'});
  CHECK(*tokenizer->Decode(std::vector<int32_t>{kTinyVocabSize + 4}) ==
        " hello");
  // A million letters take no more than linear-logarithmic time.
  CHECK(tokenizer->Encode(std::string(1'000'000, 'l'))->size() == 500'000);
}

TEST_CASE("ignore_merges takes a whole word of the vocabulary as it is",
          "[text]") {
  json spec = WithMerges();
  spec["model"]["vocab"]["xyz"] = kTinyVocabSize + 5;
  CHECK(Parsed(spec)->Encode("xyz")->size() == 3);
  spec["model"]["ignore_merges"] = true;
  CHECK(*Parsed(spec)->Encode("xyz") ==
        std::vector<int32_t>{kTinyVocabSize + 5});
}

TEST_CASE("A byte the vocabulary lacks is left out", "[text]") {
  json spec = TinyJson();
  spec["model"]["vocab"].erase(AlphabetOf(7));
  spec["model"]["vocab"]["xx"] = 7;
  CHECK(*Parsed(spec)->Encode("a\x07z") == std::vector<int32_t>{'a', 'z'});
}

TEST_CASE("NFC is applied between added tokens", "[text]") {
  json spec = TinyJson();
  spec["normalizer"] = {{"type", "NFC"}};
  CHECK(*Parsed(spec)->Encode("e\u0301<|im_end|>") ==
        std::vector<int32_t>{0xC3, 0xA9, kTinyImEnd});
  // A mark that the reference does not know stays in its place.
  CHECK(*Parsed(spec)->Decode(*Parsed(spec)->Encode("\u094d\u0c3c")) ==
        "\u094d\u0c3c");
  CHECK(*Parsed(spec)->Decode(*Parsed(spec)->Encode("\u094d\u093c")) ==
        "\u093c\u094d");
  spec["normalizer"] = {{"type", "Lowercase"}};
  CheckError(Parsed(spec).status(), absl::StatusCode::kUnimplemented,
             "Lowercase");
}

TEST_CASE("The longest added token at a place wins", "[text]") {
  json spec = TinyJson();
  json longer = spec["added_tokens"][0];
  longer["id"] = kTinyVocabSize;
  longer["content"] = "<|im_end|>!";
  longer["special"] = false;
  spec["added_tokens"].push_back(longer);
  const auto tokenizer = Parsed(spec);
  CHECK(*tokenizer->Encode("<<|im_end|>!") ==
        std::vector<int32_t>{'<', kTinyVocabSize});
  CHECK(*tokenizer->Decode(std::vector<int32_t>{kTinyVocabSize}) ==
        "<|im_end|>!");
}

TEST_CASE("Added tokens take white space along and stay out of words",
          "[text]") {
  const auto encode = [](const std::string& flag, const std::string& text) {
    json spec = TinyJson();
    spec["added_tokens"].push_back({{"id", kTinyVocabSize},
                                    {"content", "to"},
                                    {"special", false},
                                    {"normalized", false},
                                    {flag, true}});
    const auto tokenizer = Parsed(spec);
    INFO(tokenizer.status());
    REQUIRE(tokenizer.ok());
    return *tokenizer->Encode(text);
  };
  constexpr int32_t kTo = kTinyVocabSize;
  using Ids = std::vector<int32_t>;
  CHECK(encode("lstrip", "a \u00a0\tto b") == Ids{'a', kTo, ' ', 'b'});
  CHECK(encode("rstrip", "a to \u3000\nb") == Ids{'a', ' ', kTo, 'b'});
  CHECK(encode("rstrip", "to to") == Ids{kTo, kTo});
  CHECK(encode("lstrip", " to") == Ids{kTo});
  CHECK(encode("single_word", "(to)") == Ids{'(', kTo, ')'});
  CHECK(encode("single_word", "to") == Ids{kTo});
  CHECK(encode("single_word", "into to") == Ids{'i', 'n', 't', 'o', ' ', kTo});
  CHECK(encode("single_word", "to_") == Ids{'t', 'o', '_'});
  CHECK(encode("single_word", "\u24d0to").back() == 'o');  // A circled letter.
  CHECK(encode("single_word", "to\u0301")[0] == 't');      // A mark.
  CHECK(encode("single_word", "toto") == Ids{'t', 'o', 't', 'o'});
}

TEST_CASE("TemplateProcessing adds its tokens only when asked", "[text]") {
  json spec = TinyJson();
  spec["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<|im_start|>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}};
  const auto tokenizer = Parsed(spec);
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  CHECK(*tokenizer->Encode("a") == std::vector<int32_t>{'a'});
  CHECK(*tokenizer->Encode("a", /*add_special_tokens=*/true) ==
        std::vector<int32_t>{kTinyImStart, 'a'});
  spec["post_processor"]["single"][0]["SpecialToken"]["id"] = "<s>";
  CheckError(Parsed(spec).status(), absl::StatusCode::kInvalidArgument, "<s>");
}

TEST_CASE("Tokenizer refuses hostile files and says why", "[text]") {
  using Code = absl::StatusCode;
  const auto broken = [](const std::string& pointer, const json& value) {
    json spec = WithMerges();
    spec[json::json_pointer(pointer)] = value;
    return Parsed(spec).status();
  };
  CheckError(broken("/model/type", "WordPiece"), Code::kUnimplemented,
             "WordPiece");
  CheckError(broken("/model/byte_fallback", true), Code::kInvalidArgument,
             "<0x00>");
  CheckError(broken("/model/byte_fallback", 1), Code::kInvalidArgument,
             "byte_fallback");
  CheckError(broken("/model/vocab/a", -1), Code::kInvalidArgument, "-1");
  CheckError(broken("/model/vocab/a", 1.5), Code::kInvalidArgument, "1.5");
  CheckError(broken("/model/vocab/a", "97"), Code::kInvalidArgument, "97");
  CheckError(broken("/model/vocab/a", 98), Code::kInvalidArgument, "two");
  CheckError(broken("/model/vocab/a", 5000), Code::kInvalidArgument, "5000");
  CheckError(broken("/model/vocab/a", 4'000'000'000u), Code::kInvalidArgument,
             "4000000000");
  CheckError(broken("/model/vocab", json::array()), Code::kInvalidArgument,
             "vocab");
  CheckError(broken("/model/merges/0", "he"), Code::kInvalidArgument,
             "merge 0");
  CheckError(broken("/model/merges/0", {"h", 1}), Code::kInvalidArgument,
             "merge 0");
  CheckError(broken("/model/merges/0", "q q"), Code::kInvalidArgument,
             "not in vocab");
  CheckError(broken("/model/merges", nullptr), Code::kInvalidArgument,
             "merges");
  CheckError(broken("/added_tokens/1/id", 3), Code::kInvalidArgument,
             "contradicts");
  CheckError(broken("/added_tokens/1/id", 256), Code::kInvalidArgument,
             "twice");
  CheckError(broken("/added_tokens/1/content", ""), Code::kInvalidArgument,
             "content");
  CheckError(broken("/added_tokens/1/lstrip", 1), Code::kInvalidArgument,
             "lstrip");
  CheckError(broken("/added_tokens/1/special", 1), Code::kInvalidArgument,
             "special");
  CheckError(broken("/added_tokens", "none"), Code::kInvalidArgument,
             "added_tokens");
  CheckError(broken("/decoder", nullptr), Code::kUnimplemented, "decoder");
  CheckError(broken("/post_processor", {{"type", "Bert"}}),
             Code::kUnimplemented, "Bert");
  CheckError(broken("/pre_tokenizer/type", "Unknown"), Code::kUnimplemented,
             "Unknown");
  CheckError(broken("/model", 3), Code::kInvalidArgument, "model");
  CheckError(Parsed(TinyJson(), {kTinyVocabSize}).status(),
             Code::kInvalidArgument, "end token 259");
  CheckError(Parsed(TinyJson(), {}).status(), Code::kInvalidArgument, "end");
  CheckError(Tokenizer::Parse(std::string(100, '['), {1}).status(),
             Code::kInvalidArgument, "nested");
  CheckError(Tokenizer::Parse("{\"model\": ", {1}).status(),
             Code::kInvalidArgument, "json");
}

TEST_CASE("Tokenizer::Load finds the end tokens or says where they belong",
          "[text]") {
  TemporaryDir dir;
  REQUIRE(WriteTinyTokenizer(dir.path).ok());
  const auto write = [&](const char* name, const char* text) {
    REQUIRE(WriteFileAtomically(dir.path / name, text).ok());
  };
  write("generation_config.json", R"({"eos_token_id": [258, 256]})");
  CHECK(Tokenizer::Load(dir.path)->eos_ids() == std::vector<int32_t>{258, 256});
  write("generation_config.json", "{}");
  CheckError(Tokenizer::Load(dir.path).status(),
             absl::StatusCode::kInvalidArgument, "eos_token_id");
  write("config.json", R"({"eos_token_id": 256})");
  CHECK(Tokenizer::Load(dir.path)->eos_ids() == std::vector<int32_t>{256});
  write("config.json", R"({"eos_token_id": "<|im_end|>"})");
  CheckError(Tokenizer::Load(dir.path).status(),
             absl::StatusCode::kInvalidArgument, "config.json");
  CHECK(Tokenizer::Load(dir.path / "absent").status().code() ==
        absl::StatusCode::kNotFound);
}

TEST_CASE("Encode and Decode refuse what is not text or not a token",
          "[text]") {
  const auto tokenizer = Parsed(TinyJson());
  CheckError(tokenizer->Encode("ab\xFF").status(),
             absl::StatusCode::kInvalidArgument, "byte 2");
  CHECK(tokenizer->Encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a'))
            .status()
            .code() == absl::StatusCode::kResourceExhausted);
  CheckError(tokenizer->Decode(std::vector<int32_t>{-1}).status(),
             absl::StatusCode::kInvalidArgument, "-1");
  CheckError(tokenizer->BytesOf(kTinyVocabSize).status(),
             absl::StatusCode::kInvalidArgument, "259");
}

TEST_CASE("ids beyond the tokenizer decode to nothing", "[text]") {
  const auto tokenizer = Parsed(TinyJson());
  // In the middle of a code point, too.
  CHECK(*tokenizer->Decode(std::vector<int32_t>{
            'a', kTinyVocabSize, 0xC3, 1 << 20, 0xA9, kTinyVocabSize}) == "aé");
  CHECK(tokenizer->Decode(std::vector<int32_t>{kTinyVocabSize})->empty());
}

TEST_CASE("IncrementalDecoder never emits half a code point", "[text]") {
  const auto tokenizer = Parsed(TinyJson());
  const std::string text = "a€😀e\u0301";
  IncrementalDecoder decoder(*tokenizer);
  std::string all;
  for (const char c : text) {
    const auto more = decoder.Push(static_cast<uint8_t>(c));
    REQUIRE(more.ok());
    CHECK_FALSE(FirstInvalidUtf8(*more).has_value());
    all += *more;
  }
  CHECK(decoder.Push(kTinyImEnd)->empty());
  CHECK(all == text);
  CHECK(decoder.Finish().empty());
  CHECK(decoder.Push(0xF0)->empty());
  CHECK(decoder.Finish() == "\xEF\xBF\xBD");
  CHECK(decoder.Push(9999)->empty());
  CHECK_FALSE(decoder.Push(-1).ok());
}

}  // namespace
}  // namespace mpo::text
