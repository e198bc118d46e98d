// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mpo::text {

// One step of a walk over UTF-8.
struct DecodedChar {
  char32_t code_point = 0;
  int length = 0;  // Bytes taken, 1..4.
};

// What stands at the start of a byte string.
enum class Utf8State {
  kComplete,    // A whole, valid code point.
  kInvalid,     // Bytes that no continuation can make valid.
  kIncomplete,  // A valid beginning that ends too early.
};

// Reads the code point at the start of `bytes`, which must not be empty. On
// kInvalid and kIncomplete `length` is the maximal subpart to be replaced by
// one U+FFFD.
Utf8State DecodeChar(std::string_view bytes, DecodedChar& decoded);

// Offset of the first byte that is not valid UTF-8; nullopt if all is.
std::optional<size_t> FirstInvalidUtf8(std::string_view bytes);

// Moves the longest prefix of `pending` that is made of whole code points to
// the end of `out`; each invalid sequence becomes one U+FFFD. What may still
// become a code point stays in `pending`, unless `final`.
void DrainUtf8(std::string& pending, bool final, std::string& out);

// Splits a string in the byte-level alphabet (one printable character a byte)
// into bytes; nullopt when it holds another character.
std::optional<std::string> BytesOfAlphabet(std::string_view token);

// The alphabet's character for a byte, as UTF-8.
const std::string& AlphabetOf(uint8_t byte);

}  // namespace mpo::text
