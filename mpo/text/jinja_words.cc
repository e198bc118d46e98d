// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/jinja_words.h"

#include <algorithm>

namespace mpo::text {
namespace {

bool IsWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '_';
}

// Offset after the string that begins at `at`.
size_t AfterString(std::string_view code, size_t at) {
  const char quote = code[at++];
  while (at < code.size() && code[at] != quote) at += code[at] == '\\' ? 2 : 1;
  return std::min(at + 1, code.size());
}

// Reads code up to and with `end` ("}}" or "%}").
size_t ReadCode(std::string_view jinja, size_t at, std::string_view end,
                std::set<std::string>& words) {
  while (at < jinja.size() && jinja.substr(at, 2) != end) {
    const char c = jinja[at];
    if (c == '\'' || c == '"') {
      at = AfterString(jinja, at);
    } else if (IsWordChar(c)) {
      const size_t begin = at;
      while (at < jinja.size() && IsWordChar(jinja[at])) ++at;
      if (c < '0' || c > '9') words.emplace(jinja.substr(begin, at - begin));
    } else {
      ++at;
    }
  }
  return std::min(at + 2, jinja.size());
}

}  // namespace

JinjaWords ReadJinja(std::string_view jinja) {
  JinjaWords result;
  for (size_t at = 0; at < jinja.size();) {
    const std::string_view next = jinja.substr(at, 2);
    if (next == "{#") {
      const size_t end = jinja.find("#}", at);
      at = end == std::string_view::npos ? jinja.size() : end + 2;
    } else if (next == "{{" || next == "{%") {
      at = ReadCode(jinja, at + 2, next == "{{" ? "}}" : "%}", result.words);
    } else {
      if (std::string_view(" \t\r\n").find(jinja[at]) ==
          std::string_view::npos) {
        result.has_text = true;
      }
      ++at;
    }
  }
  return result;
}

}  // namespace mpo::text
