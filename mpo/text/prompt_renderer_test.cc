// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/prompt_renderer.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/tiny_tokenizer.h"

namespace mpo::text {
namespace {

Tokenizer TinyTokenizer() {
  const auto dir = std::filesystem::temp_directory_path() /
                   absl::StrCat("mpo_prompt_renderer_", getpid());
  std::filesystem::create_directories(dir);
  REQUIRE(WriteTinyTokenizer(dir).ok());
  auto tokenizer = Tokenizer::Load(dir);
  std::filesystem::remove_all(dir);
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

TEST_CASE("RenderPrompt adds no system turn and takes raw text as it is",
          "[text]") {
  const Tokenizer tokenizer = TinyTokenizer();
  const absl::StatusOr<ChatTemplate> chat =
      ChatTemplate(ChatFamily::kChatMl, "Be useful.", "");
  Prompt prompt;
  prompt.id = "p";
  prompt.messages = {{"user", "Hi"}};
  const auto tokens = RenderPrompt(tokenizer, chat, prompt);
  REQUIRE(tokens.ok());
  CHECK(*tokenizer.Decode(*tokens, /*skip_special=*/false) ==
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  prompt.messages.clear();
  prompt.text = "1 + 1 =";
  CHECK(RenderPrompt(tokenizer, chat, prompt)->size() == 7);
  prompt.messages = {{"user", "Hi"}};
  CHECK(absl::StrContains(
      RenderPrompt(tokenizer, chat, prompt).status().message(), "both"));
  prompt.text.clear();
  CHECK(absl::IsNotFound(
      RenderPrompt(tokenizer, absl::NotFoundError("none"), prompt).status()));
  prompt.messages[0].role = "tool";
  const absl::Status status = RenderPrompt(tokenizer, chat, prompt).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(absl::StrContains(status.message(), "prompt \"p\""));
  CHECK(absl::StrContains(
      RenderPrompt(tokenizer, chat, Prompt()).status().message(), "neither"));
}

}  // namespace
}  // namespace mpo::text
