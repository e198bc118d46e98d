// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/chat_template.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"

namespace mpo::text {
namespace {

constexpr char kModel[] = MPO_SOURCE_DIR "/.deps/models/smollm2-135m-instruct";

absl::StatusOr<ChatTemplate> FromJinja(const std::string& jinja) {
  const nlohmann::json config = {{"chat_template", jinja},
                                 {"bos_token", "<|begin_of_text|>"}};
  return ChatTemplate::Parse(config.dump());
}

std::string Render(const ChatTemplate& chat,
                   const std::vector<ChatMessage>& messages,
                   ChatRenderOptions options) {
  const auto text = chat.Render(messages, options);
  INFO(text.status());
  REQUIRE(text.ok());
  return *text;
}

void CheckError(const absl::Status& status, absl::StatusCode code,
                const std::string& part) {
  INFO(status);
  CHECK(status.code() == code);
  CHECK(absl::StrContains(status.message(), part));
}

// A template of the ChatML family as Qwen2.5 writes them: the default system
// turn stands in a literal with an escaped line break.
constexpr char kWithTools[] =
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{{- sys }}{{- '<|im_end|>' }}"
    "{%- elif messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nBe useful.<|im_end|>\\n' }}"
    "{%- endif %}";

TEST_CASE("ChatTemplate renders SmolLM2's turns as its own template does",
          "[text]") {
  if (!std::filesystem::exists(kModel)) {
    WARN("no model at " << kModel);
    return;
  }
  const auto chat = ChatTemplate::Load(kModel);
  REQUIRE(chat.ok());
  CHECK(chat->family() == ChatFamily::kChatMl);
  const std::string system =
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\n";
  const ChatRenderOptions open = {.add_generation_prompt = true,
                                  .default_system_prompt = true};
  const ChatRenderOptions closed = {.add_generation_prompt = false,
                                    .default_system_prompt = true};
  CHECK(Render(*chat, {{"user", "Hi\n"}}, closed) ==
        system + "<|im_start|>user\nHi\n<|im_end|>\n");
  CHECK(Render(*chat, {{"user", "Hi\n"}}, open) ==
        system + "<|im_start|>user\nHi\n<|im_end|>\n<|im_start|>assistant\n");
  CHECK(Render(*chat, {{"system", "S"}, {"user", "Hi"}}, closed) ==
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
  CHECK(Render(*chat, {{"user", "a"}, {"assistant", "b"}, {"system", "x"}},
               closed) == system +
                              "<|im_start|>user\na<|im_end|>\n"
                              "<|im_start|>assistant\nb<|im_end|>\n"
                              "<|im_start|>system\nx<|im_end|>\n");
}

TEST_CASE("ChatTemplate leaves the default system turn out unless asked",
          "[text]") {
  const auto chat = FromJinja(kWithTools);
  REQUIRE(chat.ok());
  CHECK(chat->default_system() == "Be useful.");
  const std::string user =
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  CHECK(Render(*chat, {{"user", "Hi"}}, {}) == user);
  CHECK(
      Render(*chat, {{"user", "Hi"}},
             {.add_generation_prompt = true, .default_system_prompt = true}) ==
      "<|im_start|>system\nBe useful.<|im_end|>\n" + user);
}

TEST_CASE("ChatTemplate renders the Llama 3 family with trimmed contents",
          "[text]") {
  const auto chat = FromJinja(
      "{{bos_token}}{{'<|start_header_id|>' + m['role'] + "
      "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>'}}");
  REQUIRE(chat.ok());
  CHECK(chat->family() == ChatFamily::kLlama3);
  CHECK(Render(*chat, {{"user", " \u3000Hi there\n"}}, {}) ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        "Hi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(Render(*chat, {{"user", " \n"}}, {.add_generation_prompt = false}) ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        "<|eot_id|>");
}

TEST_CASE("ChatTemplate refuses templates it does not know", "[text]") {
  CheckError(FromJinja("[INST] {{ x }} [/INST]").status(),
             absl::StatusCode::kUnimplemented, "mpo_chat_family");
  CheckError(FromJinja("<|im_start|>{{ x }}<|im_end|><think>").status(),
             absl::StatusCode::kUnimplemented, "<think>");
  CheckError(ChatTemplate::Parse("{}").status(),
             absl::StatusCode::kInvalidArgument, "no chat_template");
  CheckError(ChatTemplate::Parse("[1]").status(),
             absl::StatusCode::kInvalidArgument, "expected a json object");
  CheckError(ChatTemplate::Parse("{").status(),
             absl::StatusCode::kInvalidArgument, "not valid json");
  CheckError(ChatTemplate::Parse(R"({"mpo_chat_family": "other"})").status(),
             absl::StatusCode::kInvalidArgument, "chatml");
  CHECK(ChatTemplate::Load("/nonexistent").status().code() ==
        absl::StatusCode::kNotFound);
}

TEST_CASE("ChatTemplate takes a family named by hand", "[text]") {
  const auto chat = ChatTemplate::Parse(
      R"({"mpo_chat_family": "llama3", "chat_template": "odd",
          "bos_token": {"content": "<s>"}})");
  REQUIRE(chat.ok());
  CHECK(absl::StartsWith(Render(*chat, {{"user", "x"}}, {}),
                         "<s><|start_header_id|>"));
}

TEST_CASE("ChatTemplate takes the template named default of a list", "[text]") {
  const auto chat = ChatTemplate::Parse(
      R"({"chat_template": [{"name": "tool_use", "template": "odd"},
      {"name": "default", "template": "<|im_start|>x<|im_end|>"}]})");
  REQUIRE(chat.ok());
  CHECK(chat->family() == ChatFamily::kChatMl);
}

TEST_CASE("ChatTemplate::Render refuses no messages and other roles",
          "[text]") {
  const ChatTemplate chat(ChatFamily::kChatMl, "", "");
  CHECK(chat.Render({}, {}).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CheckError(chat.Render({{"user", "a"}, {"tool", "b"}}, {}).status(),
             absl::StatusCode::kInvalidArgument, "message 1 has role \"tool\"");
}

}  // namespace
}  // namespace mpo::text
