// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/prompt_renderer.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace mpo::text {
namespace {

absl::StatusOr<std::vector<int32_t>> Render(
    const Tokenizer& tokenizer, const absl::StatusOr<ChatTemplate>& chat,
    const Prompt& prompt) {
  if (prompt.messages.empty() == prompt.text.empty()) {
    return absl::InvalidArgumentError(prompt.text.empty()
                                          ? "it has neither messages nor text"
                                          : "it has both messages and text");
  }
  if (prompt.messages.empty()) {
    return tokenizer.Encode(prompt.text, /*add_special_tokens=*/true);
  }
  if (!chat.ok()) return chat.status();
  const auto rendered = chat->Render(
      prompt.messages,
      {.add_generation_prompt = true, .default_system_prompt = false});
  if (!rendered.ok()) return rendered.status();
  return tokenizer.Encode(*rendered);
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> RenderPrompt(
    const Tokenizer& tokenizer, const absl::StatusOr<ChatTemplate>& chat,
    const Prompt& prompt) {
  auto tokens = Render(tokenizer, chat, prompt);
  if (tokens.ok() && tokens->empty()) {
    tokens = absl::InvalidArgumentError("it has no tokens");
  }
  if (tokens.ok()) return tokens;
  return absl::Status(tokens.status().code(),
                      absl::StrCat("prompt \"", prompt.id, "\": ",
                                   std::string(tokens.status().message())));
}

}  // namespace mpo::text
