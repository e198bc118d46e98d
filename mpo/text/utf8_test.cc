// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/utf8.h"

#include <catch2/catch.hpp>

#include "mpo/text/unicode_classes.h"

namespace mpo::text {
namespace {

std::string Lossy(std::string bytes) {
  std::string out;
  DrainUtf8(bytes, /*final=*/true, out);
  CHECK(bytes.empty());
  return out;
}

TEST_CASE("DrainUtf8 replaces each maximal invalid sequence by one mark",
          "[text]") {
  const std::string mark = "\xEF\xBF\xBD";
  CHECK(Lossy("plain") == "plain");
  CHECK(Lossy("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") == "é€😀");
  CHECK(Lossy("a\xFFz") == "a" + mark + "z");
  CHECK(Lossy("\xC0\x80") == mark + mark);             // Overlong.
  CHECK(Lossy("\xED\xA0\x80") == mark + mark + mark);  // Surrogate.
  CHECK(Lossy("\xF0\x9F\x98z") == mark + "z");         // Cut, then a letter.
  CHECK(Lossy("\xF4\x90\x80\x80") == mark + mark + mark + mark);
  CHECK(Lossy("\xE2\x82") == mark);
}

TEST_CASE("DrainUtf8 keeps what may still become a code point", "[text]") {
  std::string pending = "ab\xF0\x9F";
  std::string out;
  DrainUtf8(pending, /*final=*/false, out);
  CHECK(out == "ab");
  CHECK(pending == "\xF0\x9F");
  pending += "\x98\x80!";
  DrainUtf8(pending, /*final=*/false, out);
  CHECK(out == "ab😀!");
  CHECK(pending.empty());
}

TEST_CASE("FirstInvalidUtf8 names the offset", "[text]") {
  CHECK(FirstInvalidUtf8("é").has_value() == false);
  CHECK(FirstInvalidUtf8("é\x80").value() == 2);
  CHECK(FirstInvalidUtf8("a\xE2\x82").value() == 1);
}

TEST_CASE("The byte alphabet goes both ways for all bytes", "[text]") {
  for (int byte = 0; byte < 256; ++byte) {
    const auto bytes = BytesOfAlphabet(AlphabetOf(static_cast<uint8_t>(byte)));
    REQUIRE(bytes.has_value());
    CHECK(*bytes == std::string(1, static_cast<char>(byte)));
  }
  CHECK(AlphabetOf(' ') == "Ġ");
  CHECK_FALSE(BytesOfAlphabet("with space").has_value());
  CHECK_FALSE(BytesOfAlphabet("\xFF").has_value());
}

TEST_CASE("WithKnownClasses keeps every length and leaves old text alone",
          "[text]") {
  CHECK(WithKnownClasses("plain é 你 😀") == "plain é 你 😀");
  const std::string recent = "\u180E\U00031350\U0001E4F3";
  CHECK(WithKnownClasses(recent).size() == recent.size());
  CHECK(WithKnownClasses(recent) != recent);
  CHECK(IsNumber(U'7'));
  CHECK(IsNumber(U'\u00BD'));
  CHECK(IsNumber(U'\U0001E4F3'));
  CHECK_FALSE(IsNumber(U'x'));
}

}  // namespace
}  // namespace mpo::text
