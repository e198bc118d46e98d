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
  // <|im_start|>role\ncontent<|im_end|>\n (SmolLM2, Qwen2, Qwen2.5).
  kChatMl,
  // As ChatML, but the thoughts (<think>...</think>) of an assistant's turn
  // are kept only after the last question, where each turn gets some.
  kQwen3,
  // <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>, contents
  // trimmed, behind the begin token.
  kLlama3,
  // Llama 3.1 to 3.3: as Llama 3 behind a system turn that begins with the
  // date of the training data and today's.
  kLlama31,
};

struct ChatRenderOptions {
  // Open the assistant's turn at the end, so that the model answers.
  bool add_generation_prompt = true;
  // Put the template's own system turn in front when the messages do not begin
  // with one, and Llama 3.1's dates into it, as the model's Jinja template
  // does. False: the messages exactly as given. Rollouts are made with false:
  // what the data says is all the policy sees.
  bool default_system_prompt = false;
  // Qwen3 (its enable_thinking): false puts an empty thought into the opened
  // turn, so that the model answers at once. Others have none.
  bool thinking = true;
  // Llama 3.1's "Today Date", as "26 Jul 2024"; empty = the one that the
  // template names where it is rendered without a clock.
  std::string date = {};
};

// Renders chat messages for a model. The Jinja text of a model's chat template
// is never run: it is recognised as one of the families above by its markers,
// and refused when its code uses a word that the family does not. Immutable,
// thread-safe.
class ChatTemplate {
 public:
  // Names of families, as `family` below takes them: "chatml", "smollm2" and
  // "qwen2.5" (ChatML with that model's default system turn), "qwen3",
  // "llama3", "llama3.1".
  static const std::vector<std::string>& FamilyNames();

  // Reads tokenizer_config.json of a model directory and, where there is one,
  // chat_template.jinja, which goes before. `family`, where not empty, decides
  // in the template's place; so does the key "mpo_chat_family" of
  // tokenizer_config.json. NOT_FOUND: no tokenizer_config.json.
  // INVALID_ARGUMENT: malformed, no template, an unknown family name.
  // UNIMPLEMENTED: the template belongs to no known family; the message says
  // what was not understood and how to name a family by hand.
  static absl::StatusOr<ChatTemplate> Load(const std::filesystem::path& dir,
                                           std::string_view family = "");

  // From the text of a tokenizer_config.json and, where not empty, of a
  // chat_template.jinja; same errors.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view config_json,
                                            std::string_view jinja = "",
                                            std::string_view family = "");

  ChatTemplate(ChatFamily family, std::string default_system,
               std::string begin_token, std::string date = "26 Jul 2024")
      : family_(family),
        default_system_(std::move(default_system)),
        begin_token_(std::move(begin_token)),
        date_(std::move(date)) {}

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
  static absl::StatusOr<ChatTemplate> Named(std::string_view family,
                                            const std::string& jinja,
                                            const std::string& begin_token);
  static absl::StatusOr<ChatTemplate> Recognise(const std::string& jinja,
                                                const std::string& begin_token);
  std::string LlamaSystem(std::string_view content,
                          const ChatRenderOptions& options) const;

  ChatFamily family_;
  std::string default_system_;
  std::string begin_token_;  // Llama 3 writes it before the first turn.
  std::string date_;         // Llama 3.1: what the template names.
};

}  // namespace mpo::text
