// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mpo::text {

// Tokenizer files are made and used with the character classes of Unicode 16;
// PCRE2 10.42 has those of Unicode 14 and counts U+180E as a space.

// True for letters-as-numbers, digits and other numbers.
bool IsNumber(char32_t c);

// Whether valid UTF-8 begins or ends with a character of a word: letters,
// marks, decimal and letter numbers, connecting punctuation, joiners (\w of
// Unicode's regular expressions). False for an empty text.
bool StartsWithWord(std::string_view text);
bool EndsWithWord(std::string_view text);

// Bytes of white space (\s) at the start or end of valid UTF-8.
size_t SpacesAtStart(std::string_view text);
size_t SpacesAtEnd(std::string_view text);

// Returns `text` (valid UTF-8) with every character whose class PCRE2 has
// wrong replaced by one of the right class and the same length in bytes, so
// that offsets of matches hold for `text` too.
std::string WithKnownClasses(std::string_view text);

}  // namespace mpo::text
