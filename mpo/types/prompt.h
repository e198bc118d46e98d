// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace mpo {

// One turn of a chat.
struct ChatMessage {
  std::string role;  // "system", "user" or "assistant".
  std::string content;
  bool operator==(const ChatMessage&) const = default;
};

// One task instance.
struct Prompt {
  std::string id;    // Unique in its data set.
  std::string task;  // "essay", "math", ...
  std::vector<ChatMessage> messages;  // Empty when `text` is a raw prompt.
  std::string text;                   // Raw completion prompt, else empty.
  std::string reference;  // Gold answer; empty where the task has none.
  std::string subject;    // What the response must be about (essay: the claim).
  std::vector<std::string> key_terms;  // Words that belong to the subject.
  std::string cluster;                 // Optional group of similar prompts.
  bool operator==(const Prompt&) const = default;
};

}  // namespace mpo
