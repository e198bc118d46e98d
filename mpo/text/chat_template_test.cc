// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/chat_template.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "mpo/base/file.h"
#include "mpo/text/jinja_words.h"

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

// Templates of two families that say no more than recognition needs.
constexpr char kChatMl[] =
    "{{ '<|im_start|>' + message.role + '<|im_end|>' }}"
    "{% if add_generation_prompt %}{% endif %}";
constexpr char kLlama3[] =
    "{{ bos_token + '<|start_header_id|>' + message.content | trim + "
    "'<|eot_id|>' }}{% if add_generation_prompt %}{% endif %}";

// A template of the ChatML family as Qwen2.5 writes them: the default system
// turn stands in a literal with an escaped line break.
constexpr char kWithTools[] =
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{{- tools }}"
    "{{- '<|im_end|>' }}"
    "{%- elif messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nBe useful.<|im_end|>\\n' }}"
    "{%- endif %}{%- if add_generation_prompt %}{%- endif %}";

TEST_CASE("ChatTemplate renders every family as transformers renders it",
          "[text]") {
  const auto fixture = nlohmann::json::parse(
      *ReadFile(MPO_SOURCE_DIR "/tests/fixtures/chat_templates.json"));
  std::map<std::string, ChatTemplate> templates;
  for (const auto& [name, entry] : fixture["templates"].items()) {
    const auto chat = FromJinja(entry["jinja"].get<std::string>());
    INFO(name << ": " << chat.status());
    REQUIRE(chat.ok());
    templates.emplace(name, *chat);
    // The same family when it comes from a file of its own, or by name.
    const std::string config = R"({"bos_token": "<|begin_of_text|>"})";
    const auto file =
        ChatTemplate::Parse(config, entry["jinja"].get<std::string>());
    REQUIRE(file.ok());
    CHECK(file->family() == chat->family());
    CHECK(file->default_system() == chat->default_system());
    const auto named = ChatTemplate::Parse(config, "", name);
    REQUIRE(named.ok());
    CHECK(named->family() == chat->family());
    CHECK(named->default_system() == chat->default_system());
  }
  CHECK(fixture["cases"].size() >= 200);
  for (const auto& item : fixture["cases"]) {
    std::vector<ChatMessage> messages;
    for (const auto& message : item["messages"])
      messages.push_back({message["role"], message["content"]});
    const ChatTemplate& chat = templates.at(item["template"]);
    const ChatRenderOptions options = {
        .add_generation_prompt = item["generation"],
        .default_system_prompt = true,
        .thinking = item.value("enable_thinking", true),
        .date = item.value("date_string", "")};
    INFO(item["template"] << " " << item["messages"].dump());
    REQUIRE(Render(chat, messages, options) == item["text"]);
  }
}

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
  const auto chat = FromJinja(kLlama3);
  INFO(chat.status());
  REQUIRE(chat.ok());
  CHECK(chat->family() == ChatFamily::kLlama3);
  CHECK(Render(*chat, {{"user", " \u3000Hi there\n"}}, {}) ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        "Hi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(Render(*chat, {{"user", " \n"}}, {.add_generation_prompt = false}) ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        "<|eot_id|>");
}

TEST_CASE("Llama 3.1's dates stand in front only where the template is wanted",
          "[text]") {
  const ChatTemplate chat(ChatFamily::kLlama31, "", "<b>", "26 Jul 2024");
  const std::string user =
      "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>";
  ChatRenderOptions options = {.add_generation_prompt = false};
  CHECK(Render(chat, {{"user", "Hi"}}, options) == "<b>" + user);
  options.default_system_prompt = true;
  options.date = "24 Nov 2026";
  CHECK(Render(chat, {{"system", "S"}, {"user", "Hi"}}, options) ==
        "<b><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 24 Nov 2026\n\n"
        "S<|eot_id|>" +
            user);
}

TEST_CASE("ChatTemplate refuses templates it does not know", "[text]") {
  const std::string chatml = kChatMl;
  const auto unknown = [](const std::string& jinja, const std::string& part) {
    const absl::Status status = FromJinja(jinja).status();
    CheckError(status, absl::StatusCode::kUnimplemented, part);
    CheckError(status, absl::StatusCode::kUnimplemented, "mpo_chat_family");
    CheckError(status, absl::StatusCode::kUnimplemented, "qwen2.5, qwen3");
  };
  unknown("{{ '[INST]' + message.content + '[/INST]' }}", "no known family");
  unknown(chatml + "{{ message.content | trim }}", "\"trim\"");
  unknown(chatml + "{{ strftime_now('%d') }}", "\"strftime_now\"");
  unknown(chatml + "{{ message.reasoning_content }}", "reasoning_content");
  unknown(std::string(kLlama3) + "{{ raise_exception('x') }}",
          "raise_exception");
  unknown(chatml + "Answer:", "text outside");
  unknown("{{ '<|im_start|>' + message.role + '<|im_end|>' }}",
          "add_generation_prompt");
  CheckError(ChatTemplate::Parse("{}").status(),
             absl::StatusCode::kInvalidArgument, "no chat_template");
  CheckError(ChatTemplate::Parse("[1]").status(),
             absl::StatusCode::kInvalidArgument, "expected a json object");
  CheckError(ChatTemplate::Parse("{").status(),
             absl::StatusCode::kInvalidArgument, "not valid json");
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
  // The caller's word goes before the file's.
  const auto other =
      ChatTemplate::Parse(R"({"mpo_chat_family": "llama3"})", "", "qwen3");
  REQUIRE(other.ok());
  CHECK(other->family() == ChatFamily::kQwen3);
  for (const std::string& name : ChatTemplate::FamilyNames())
    CHECK(ChatTemplate::Parse("{}", "", name).ok());
  CheckError(ChatTemplate::Parse(R"({"mpo_chat_family": "other"})").status(),
             absl::StatusCode::kInvalidArgument, "expected one of chatml");
  CheckError(ChatTemplate::Parse(R"({"mpo_chat_family": 7})").status(),
             absl::StatusCode::kInvalidArgument, "\"7\"");
}

TEST_CASE("chat_template.jinja goes before tokenizer_config.json", "[text]") {
  const auto dir = std::filesystem::path(MPO_BINARY_DIR) / "chat_template_test";
  std::filesystem::create_directories(dir);
  const nlohmann::json config = {{"chat_template", kLlama3}};
  REQUIRE(
      WriteFileAtomically(dir / "tokenizer_config.json", config.dump()).ok());
  CHECK(ChatTemplate::Load(dir)->family() == ChatFamily::kLlama3);
  REQUIRE(WriteFileAtomically(dir / "chat_template.jinja", kChatMl).ok());
  CHECK(ChatTemplate::Load(dir)->family() == ChatFamily::kChatMl);
  CHECK(ChatTemplate::Load(dir, "llama3.1")->family() == ChatFamily::kLlama31);
  std::filesystem::remove_all(dir);
}

TEST_CASE("ChatTemplate takes the template named default of a list", "[text]") {
  const nlohmann::json config = {
      {"chat_template",
       {{{"name", "tool_use"}, {"template", "odd"}},
        {{"name", "default"}, {"template", kChatMl}}}}};
  const auto chat = ChatTemplate::Parse(config.dump());
  INFO(chat.status());
  REQUIRE(chat.ok());
  CHECK(chat->family() == ChatFamily::kChatMl);
}

TEST_CASE("ReadJinja finds words in code and nowhere else", "[text]") {
  const JinjaWords found = ReadJinja(
      " {# not this #}\n{{- a1 + 'no \\' no' ~ \"no\" }}{% if b.c_d "
      "%}{%endif%}");
  CHECK(found.words == std::set<std::string>{"a1", "if", "b", "c_d", "endif"});
  CHECK_FALSE(found.has_text);
  CHECK(ReadJinja("{{ x }} text").has_text);
  for (const char* broken : {"{{ 'x", "{% x", "{#", "{", "{{ \\", "{{'\\"})
    ReadJinja(broken);
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
