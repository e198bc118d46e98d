// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/utf8.h"

#include <array>
#include <unordered_map>

namespace mpo::text {
namespace {

// Allowed range of the second byte (Unicode 15, table 3-7).
bool SecondByteRange(uint8_t first, uint8_t& low, uint8_t& high) {
  low = 0x80;
  high = 0xBF;
  if (first < 0xC2 || first > 0xF4) return false;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  return true;
}

std::string EncodeChar(char32_t c) {
  std::string out;
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  out.push_back(static_cast<char>(0xC0 | (c >> 6)));  // Alphabet is < U+0800.
  out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  return out;
}

struct Alphabet {
  std::array<std::string, 256> chars;
  std::unordered_map<char32_t, uint8_t> bytes;
  Alphabet() {
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) ||
                             (b >= 174 && b <= 255);
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      chars[b] = EncodeChar(c);
      bytes[c] = static_cast<uint8_t>(b);
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet* const alphabet = new Alphabet;
  return *alphabet;
}

}  // namespace

Utf8State DecodeChar(std::string_view bytes, DecodedChar& decoded) {
  const uint8_t first = static_cast<uint8_t>(bytes[0]);
  decoded = {first, 1};
  if (first < 0x80) return Utf8State::kComplete;
  uint8_t low = 0;
  uint8_t high = 0;
  if (!SecondByteRange(first, low, high)) return Utf8State::kInvalid;
  const int total = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  char32_t c = first & (0xFF >> (total + 1));
  for (int i = 1; i < total; ++i) {
    if (static_cast<size_t>(i) == bytes.size()) return Utf8State::kIncomplete;
    const uint8_t b = static_cast<uint8_t>(bytes[i]);
    if (b < low || b > high) return Utf8State::kInvalid;
    low = 0x80;
    high = 0xBF;
    c = (c << 6) | (b & 0x3F);
    decoded.length = i + 1;
  }
  decoded.code_point = c;
  return Utf8State::kComplete;
}

std::optional<size_t> FirstInvalidUtf8(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    DecodedChar c;
    if (DecodeChar(bytes.substr(at), c) != Utf8State::kComplete) return at;
    at += c.length;
  }
  return std::nullopt;
}

void DrainUtf8(std::string& pending, bool final, std::string& out) {
  size_t at = 0;
  while (at < pending.size()) {
    DecodedChar c;
    const Utf8State state = DecodeChar(std::string_view(pending).substr(at), c);
    if (state == Utf8State::kIncomplete && !final) break;
    if (state == Utf8State::kComplete) {
      out.append(pending, at, c.length);
    } else {
      out.append("\xEF\xBF\xBD");
    }
    at += c.length;
  }
  pending.erase(0, at);
}

std::optional<std::string> BytesOfAlphabet(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    DecodedChar c;
    if (DecodeChar(token, c) != Utf8State::kComplete) return std::nullopt;
    const auto found = TheAlphabet().bytes.find(c.code_point);
    if (found == TheAlphabet().bytes.end()) return std::nullopt;
    bytes.push_back(static_cast<char>(found->second));
    token.remove_prefix(c.length);
  }
  return bytes;
}

const std::string& AlphabetOf(uint8_t byte) {
  return TheAlphabet().chars[byte];
}

}  // namespace mpo::text
