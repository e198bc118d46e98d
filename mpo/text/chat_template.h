// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"

namespace mpo::text {

enum class ChatFamily {
  kChatMl,  // <|im_start|>role\ncontent<|im_end|>\n (SmolLM2, Qwen2, Qwen2.5)
  kLlama3,  // <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>
};

struct ChatRenderOptions {
  // Open the assistant's turn at the end, so that the model answers.
  bool add_generation_prompt = true;
  // Put the template's own system turn in front when the messages do not begin
  // with one, as the model's Jinja template does. False: the messages exactly
  // as given. Rollouts are made with false: what the data says is all the
  // policy sees.
  bool default_system_prompt = false;
};

// Renders chat messages for a model. The Jinja text of tokenizer_config.json is
// never run: it is recognised as one of a few families. Immutable, thread-safe.
class ChatTemplate {
 public:
  // Reads tokenizer_config.json of a model directory. NOT_FOUND: no such file.
  // INVALID_ARGUMENT: malformed, or it has no chat_template.
  // UNIMPLEMENTED: the template belongs to no known family; the message says
  // how to name one by hand (key "mpo_chat_family": "chatml" or "llama3").
  static absl::StatusOr<ChatTemplate> Load(const std::filesystem::path& dir);

  // From the text of a tokenizer_config.json; same errors.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view config_json);

  ChatTemplate(ChatFamily family, std::string default_system,
               std::string begin_token)
      : family_(family),
        default_system_(std::move(default_system)),
        begin_token_(std::move(begin_token)) {}

  // The text to encode (its begin token included, where the family has one).
  // Contents stand as they are: a control token written in one is a control
  // token. INVALID_ARGUMENT: no messages, or a role other than system, user
  // and assistant; the message names its position.
  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     const ChatRenderOptions& options) const;

  ChatFamily family() const { return family_; }
  // Empty: the template has none.
  const std::string& default_system() const { return default_system_; }

 private:
  ChatFamily family_;
  std::string default_system_;
  std::string begin_token_;  // Llama 3 writes it before the first turn.
};

}  // namespace mpo::text
