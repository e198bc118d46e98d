// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/unicode_classes.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

// [first, last] has class L(etter), N(umber) or O(ther) in Unicode 16 and
// another one in PCRE2 10.42. Found by asking both for every code point.
struct Range {
  char32_t first;
  char32_t last;
  char kind;
};
constexpr Range kRanges[] = {
    {0x0180E, 0x0180E, 'O'}, {0x01C89, 0x01C8A, 'L'}, {0x0A7CB, 0x0A7CD, 'L'},
    {0x0A7DA, 0x0A7DC, 'L'}, {0x105C0, 0x105F3, 'L'}, {0x10D40, 0x10D49, 'N'},
    {0x10D4A, 0x10D65, 'L'}, {0x10D6F, 0x10D85, 'L'}, {0x10EC2, 0x10EC4, 'L'},
    {0x1123F, 0x11240, 'L'}, {0x11380, 0x11389, 'L'}, {0x1138B, 0x1138B, 'L'},
    {0x1138E, 0x1138E, 'L'}, {0x11390, 0x113B5, 'L'}, {0x113B7, 0x113B7, 'L'},
    {0x113D1, 0x113D1, 'L'}, {0x113D3, 0x113D3, 'L'}, {0x116D0, 0x116E3, 'N'},
    {0x11BC0, 0x11BE0, 'L'}, {0x11BF0, 0x11BF9, 'N'}, {0x11F02, 0x11F02, 'L'},
    {0x11F04, 0x11F10, 'L'}, {0x11F12, 0x11F33, 'L'}, {0x11F50, 0x11F59, 'N'},
    {0x1342F, 0x1342F, 'L'}, {0x13441, 0x13446, 'L'}, {0x13460, 0x143FA, 'L'},
    {0x16100, 0x1611D, 'L'}, {0x16130, 0x16139, 'N'}, {0x16D40, 0x16D6C, 'L'},
    {0x16D70, 0x16D79, 'N'}, {0x18CFF, 0x18CFF, 'L'}, {0x1B132, 0x1B132, 'L'},
    {0x1B155, 0x1B155, 'L'}, {0x1CCF0, 0x1CCF9, 'N'}, {0x1D2C0, 0x1D2D3, 'N'},
    {0x1DF25, 0x1DF2A, 'L'}, {0x1E030, 0x1E06D, 'L'}, {0x1E4D0, 0x1E4EB, 'L'},
    {0x1E4F0, 0x1E4F9, 'N'}, {0x1E5D0, 0x1E5ED, 'L'}, {0x1E5F0, 0x1E5F0, 'L'},
    {0x1E5F1, 0x1E5FA, 'N'}, {0x2B739, 0x2B739, 'L'}, {0x2EBF0, 0x2EE5D, 'L'},
    {0x31350, 0x323AF, 'L'},
};

const Range* Find(char32_t c) {
  const Range* found = std::lower_bound(
      std::begin(kRanges), std::end(kRanges), c,
      [](const Range& range, char32_t value) { return range.last < value; });
  return found != std::end(kRanges) && found->first <= c ? found : nullptr;
}

// A character of the wanted class, 3 or 4 bytes long.
std::string_view StandIn(char kind, int length) {
  if (kind == 'L') return length == 3 ? "\u4E00" : "\U00020000";
  if (kind == 'N') return length == 3 ? "\u0966" : "\U0001D7CE";
  return length == 3 ? "\u200B" : "\U0001F600";
}

bool IsSpace(char32_t c) {
  return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsWord(char32_t c) {
  // Symbols that Unicode calls alphabetic: letters in circles and squares.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189) ||
      c == 0x200C || c == 0x200D) {
    return true;
  }
  if (const Range* range = Find(c)) return range->kind != 'O';
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

char32_t FirstChar(std::string_view text) {
  DecodedChar c;
  DecodeChar(text, c);
  return c.code_point;
}

// Offset of the last character of a text that is not empty.
size_t LastChar(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

bool IsNumber(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  // Numbers of Unicode 17, which the Digits step already knows.
  if ((c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6)) {
    return true;
  }
  if (const Range* range = Find(c)) return range->kind == 'N';
  const utf8proc_category_t category =
      utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool StartsWithWord(std::string_view text) {
  return !text.empty() && IsWord(FirstChar(text));
}

bool EndsWithWord(std::string_view text) {
  return !text.empty() && IsWord(FirstChar(text.substr(LastChar(text))));
}

size_t SpacesAtStart(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    DecodedChar c;
    DecodeChar(text.substr(at), c);
    if (!IsSpace(c.code_point)) break;
    at += c.length;
  }
  return at;
}

size_t SpacesAtEnd(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t last = LastChar(text.substr(0, end));
    if (!IsSpace(FirstChar(text.substr(last)))) break;
    end = last;
  }
  return text.size() - end;
}

std::string WithKnownClasses(std::string_view text) {
  std::string out(text);
  for (size_t at = 0; at < text.size();) {
    DecodedChar c;
    DecodeChar(text.substr(at), c);
    if (c.length >= 3) {
      if (const Range* range = Find(c.code_point)) {
        out.replace(at, c.length, StandIn(range->kind, c.length));
      }
    }
    at += c.length;
  }
  return out;
}

}  // namespace mpo::text
