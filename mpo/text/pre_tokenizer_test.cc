// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/pre_tokenizer.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"

namespace mpo::text {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

void CheckError(const absl::Status& status, absl::StatusCode code,
                const std::string& part) {
  INFO(status);
  CHECK(status.code() == code);
  CHECK(absl::StrContains(status.message(), part));
}

Words Split(const json& spec, const std::string& text) {
  const auto pre = PreTokenizer::Parse(spec);
  INFO(pre.status());
  REQUIRE(pre.ok());
  return *pre->Split(text);
}

json SplitBy(const json& pattern, const std::string& behavior, bool invert) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern", pattern},
             {"behavior", behavior},
             {"invert", invert}},
            {{"type", "ByteLevel"},
             {"add_prefix_space", false},
             {"use_regex", false}}}}};
}

TEST_CASE("PreTokenizer splits as the reference for Llama 3 and Qwen2",
          "[text]") {
  const std::string llama =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const std::string text =
      "I'LL pay 12345 €, ok?\r\n\n  Größe\t don't  \u180e x١٢ ";
  CHECK(Split(SplitBy({{"Regex", llama}}, "Isolated", false), text) ==
        Words{"I", "'LL", " pay", " ", "123", "45", " €,", " ok", "?\r\n\n",
              " ", " Größe", "\t", " don", "'t", " ", " \u180e", " x", "١٢",
              " "});
  std::string qwen = llama;
  qwen.erase(qwen.find("{1,3}"), 5);
  CHECK(Split(SplitBy({{"Regex", qwen}}, "Isolated", false), text) ==
        Words{"I",  "'LL", " pay",    " ",       "1", "2",      "3",  "4",
              "5",  " €,", " ok",     "?\r\n\n", " ", " Größe", "\t", " don",
              "'t", " ",   " \u180e", " x",      "١", "٢",      " "});
}

TEST_CASE("PreTokenizer removes matches or what lies between", "[text]") {
  const Words abc = {"a", "b", "c"};
  CHECK(Split(SplitBy({{"Regex", "\\s+"}}, "Removed", false), "a b  c ") ==
        abc);
  CHECK(Split(SplitBy({{"Regex", "\\w+"}}, "Removed", true), "a b  c ") == abc);
  CHECK(Split(SplitBy({{"String", "ab"}}, "Isolated", false), "xabab.") ==
        Words{"x", "ab", "ab", "."});
  CHECK(Split(SplitBy({{"Regex", "x*"}}, "Isolated", false), "éxxb") ==
        Words{"é", "xx", "b"});
}

TEST_CASE("PreTokenizer isolates digits and puts a space in front", "[text]") {
  const auto digits = [](bool individual) {
    return json{{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Digits"}, {"individual_digits", individual}},
                  {{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"use_regex", false}}}}};
  };
  CHECK(Split(digits(false), "a12b½3 4") ==
        Words{"a", "12", "b", "½3", " ", "4"});
  CHECK(Split(digits(true), "a12b½3 4") ==
        Words{"a", "1", "2", "b", "½", "3", " ", "4"});
  CHECK(Split({{"type", "ByteLevel"}}, "Hi there") == Words{" Hi", " there"});
}

TEST_CASE("PreTokenizer names what it does not know", "[text]") {
  const auto error = [](const json& spec) {
    return PreTokenizer::Parse(spec).status();
  };
  using Code = absl::StatusCode;
  CheckError(error({{"type", "Metaspace"}}), Code::kUnimplemented, "Metaspace");
  CheckError(error(nullptr), Code::kInvalidArgument, "null");
  CheckError(error({{"type", 7}}), Code::kInvalidArgument, "type");
  CheckError(error({{"type", "Digits"}}), Code::kUnimplemented, "last");
  CheckError(error({{"type", "Sequence"}}), Code::kInvalidArgument, "list");
  CheckError(error({{"type", "ByteLevel"}, {"use_regex", "yes"}}),
             Code::kInvalidArgument, "use_regex");
  CheckError(error(SplitBy({{"Regex", "(a"}}, "Isolated", false)),
             Code::kInvalidArgument, "offset");
  CheckError(error(SplitBy({{"Regex", "a"}}, "MergedWithNext", false)),
             Code::kUnimplemented, "MergedWithNext");
  CheckError(error(SplitBy(7, "Isolated", false)), Code::kInvalidArgument,
             "pattern");
  CheckError(
      error(SplitBy({{"Regex", std::string(5000, 'a')}}, "Isolated", false)),
      Code::kInvalidArgument, "5000");
}

TEST_CASE("A pattern that explodes is stopped", "[text]") {
  const auto pre =
      PreTokenizer::Parse(SplitBy({{"Regex", "(a+)+$"}}, "Isolated", false));
  REQUIRE(pre.ok());
  CHECK(pre->Split(std::string(40, 'a') + "!").status().code() ==
        absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace mpo::text
