// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/chat_turns.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

constexpr std::string_view kThoughtBegin = "<think>";
constexpr std::string_view kThoughtEnd = "</think>";

std::string_view WithoutBreaksBefore(std::string_view text) {
  const size_t at = text.find_first_not_of('\n');
  return at == std::string_view::npos ? "" : text.substr(at);
}

std::string_view WithoutBreaksAfter(std::string_view text) {
  const size_t at = text.find_last_not_of('\n');
  return at == std::string_view::npos ? "" : text.substr(0, at + 1);
}

}  // namespace

std::string StripSpaces(std::string_view text) {
  const auto space = [](char32_t c) {
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F) ||
           c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
  };
  size_t begin = text.size();
  size_t end = text.size();
  bool started = false;
  for (size_t at = 0; at < text.size();) {
    DecodedChar c;
    DecodeChar(text.substr(at), c);
    if (!space(c.code_point)) {
      if (!started) begin = at;
      started = true;
      end = at + c.length;
    }
    at += c.length;
  }
  return started ? std::string(text.substr(begin, end - begin)) : "";
}

void AppendChatMlTurn(std::string_view role, std::string_view content,
                      std::string& out) {
  out.append("<|im_start|>").append(role).append("\n");
  out.append(content).append("<|im_end|>\n");
}

void AppendLlamaTurn(std::string_view role, std::string_view content,
                     std::string& out) {
  out.append("<|start_header_id|>").append(role);
  out.append("<|end_header_id|>\n\n").append(content);
  out.append("<|eot_id|>");
}

size_t LastQuestion(const std::vector<ChatMessage>& messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& content = messages[i].content;
    const bool tool = absl::StartsWith(content, "<tool_response>") &&
                      absl::EndsWith(content, "</tool_response>");
    if (messages[i].role == "user" && !tool) return i;
  }
  return messages.size() - 1;
}

std::string Qwen3Answer(std::string_view content, bool after_question,
                        bool last) {
  std::string_view thought;
  const size_t first = content.find(kThoughtEnd);
  if (first != std::string_view::npos) {
    thought = WithoutBreaksAfter(content.substr(0, first));
    const size_t begin = thought.rfind(kThoughtBegin);
    if (begin != std::string_view::npos)
      thought.remove_prefix(begin + kThoughtBegin.size());
    thought = WithoutBreaksBefore(thought);
    content = WithoutBreaksBefore(
        content.substr(content.rfind(kThoughtEnd) + kThoughtEnd.size()));
  }
  if (!after_question || (!last && thought.empty()))
    return std::string(content);
  std::string out = "<think>\n";
  out.append(WithoutBreaksAfter(WithoutBreaksBefore(thought)));
  out.append("\n</think>\n\n").append(WithoutBreaksBefore(content));
  return out;
}

}  // namespace mpo::text
