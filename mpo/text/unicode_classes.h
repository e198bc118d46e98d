// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace mpo::text {

// Tokenizer files are made and used with the character classes of Unicode 16;
// PCRE2 10.42 has those of Unicode 14 and counts U+180E as a space.

// True for letters-as-numbers, digits and other numbers.
bool IsNumber(char32_t c);

// Returns `text` (valid UTF-8) with every character whose class PCRE2 has
// wrong replaced by one of the right class and the same length in bytes, so
// that offsets of matches hold for `text` too.
std::string WithKnownClasses(std::string_view text);

}  // namespace mpo::text
