// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "mpo/types/prompt.h"

// Single turns of the families of ChatTemplate.
namespace mpo::text {

// Python's str.strip(), which Jinja's trim filter is; `text` is UTF-8.
std::string StripSpaces(std::string_view text);

// <|im_start|>role\ncontent<|im_end|>\n
void AppendChatMlTurn(std::string_view role, std::string_view content,
                      std::string& out);

// <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>
void AppendLlamaTurn(std::string_view role, std::string_view content,
                     std::string& out);

// Index of the last user message that is no tool's answer; of the last message
// where there is none. At least one message.
size_t LastQuestion(const std::vector<ChatMessage>& messages);

// What Qwen3's template writes for an assistant's content: the thoughts up to
// </think> are dropped, but after the last question they stand in front, an
// empty thought in the last turn included.
std::string Qwen3Answer(std::string_view content, bool after_question,
                        bool last);

}  // namespace mpo::text
