// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/chat_template.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/json_file.h"
#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = uint64_t{8} << 20;
constexpr char kByHand[] =
    "; to choose a family by hand, add \"mpo_chat_family\": \"chatml\" or "
    "\"llama3\" to the file";

bool Has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// Constructs that change what plain system, user and assistant turns render to
// and that no family here reproduces.
const char* UnknownConstruct(const std::string& jinja) {
  for (const char* part :
       {"<think>", "reasoning_content", "enable_thinking",
        "Cutting Knowledge Date", "strftime_now", "raise_exception"}) {
    if (Has(jinja, part)) return part;
  }
  return nullptr;
}

// The text of the system turn that a ChatML template writes by itself:
// <|im_start|>system\nTEXT<|im_end|> in a literal, TEXT without Jinja code.
// The last such literal is the one without tools (Qwen2.5 has both).
std::string DefaultSystem(const std::string& jinja) {
  constexpr char kBegin[] = "<|im_start|>system\n";
  constexpr char kEnd[] = "<|im_end|>";
  std::string result;
  for (size_t at = jinja.find(kBegin); at != std::string::npos;
       at = jinja.find(kBegin, at + 1)) {
    const size_t begin = at + sizeof(kBegin) - 1;
    const size_t end = jinja.find(kEnd, begin);
    if (end == std::string::npos) break;
    const std::string text = jinja.substr(begin, end - begin);
    const bool literal = text.find_first_of("'{}") == std::string::npos;
    if (literal && !text.empty()) result = text;
  }
  return result;
}

// A token is a string or an object with its content.
std::string TokenText(const json& config, const char* key) {
  json token = config.value(key, json());
  if (token.is_object()) token = token.value("content", json());
  return token.is_string() ? token.get<std::string>() : "";
}

// One template, or the one named "default" of a list.
std::optional<std::string> TemplateText(const json& config) {
  const json& found = config.value("chat_template", json());
  if (found.is_string()) return found.get<std::string>();
  if (!found.is_array()) return std::nullopt;
  for (const json& entry : found) {
    if (entry.is_object() && entry.value("name", json()) == "default" &&
        entry.value("template", json()).is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  return std::nullopt;
}

// Python's str.strip(), which Jinja's trim filter is.
std::string Trim(const std::string& text) {
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
    DecodeChar(std::string_view(text).substr(at), c);
    if (!space(c.code_point)) {
      if (!started) begin = at;
      started = true;
      end = at + c.length;
    }
    at += c.length;
  }
  return started ? text.substr(begin, end - begin) : "";
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Load(
    const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "tokenizer_config.json";
  MPO_ASSIGN_OR_RETURN(const std::string bytes,
                       ReadFile(path, kMaxConfigBytes));
  auto result = Parse(bytes);
  if (result.ok()) return result;
  return absl::Status(result.status().code(),
                      absl::StrCat(path.string(), ": ",
                                   std::string(result.status().message())));
}

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view config_json) {
  MPO_ASSIGN_OR_RETURN(const json config,
                       ParseJsonObject(config_json, "tokenizer config"));
  const std::string begin = TokenText(config, "bos_token");
  const json by_hand = config.value("mpo_chat_family", json());
  const std::optional<std::string> found = TemplateText(config);
  // Literals may write the line break as an escape.
  const std::string jinja =
      absl::StrReplaceAll(found.value_or(""), {{"\\n", "\n"}});
  if (!by_hand.is_null()) {
    if (by_hand == "chatml") {
      return ChatTemplate(ChatFamily::kChatMl, DefaultSystem(jinja), "");
    }
    if (by_hand == "llama3") {
      return ChatTemplate(ChatFamily::kLlama3, "", begin);
    }
    return absl::InvalidArgumentError(
        absl::StrCat("mpo_chat_family is ", by_hand.dump().substr(0, 64),
                     ", expected \"chatml\" or \"llama3\""));
  }
  if (!found.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no chat_template", kByHand));
  }
  if (const char* construct = UnknownConstruct(jinja)) {
    return absl::UnimplementedError(absl::StrCat(
        "chat_template uses \"", construct,
        "\", which no known family (chatml, llama3) has", kByHand));
  }
  if (Has(jinja, "<|im_start|>") && Has(jinja, "<|im_end|>")) {
    return ChatTemplate(ChatFamily::kChatMl, DefaultSystem(jinja), "");
  }
  if (Has(jinja, "<|start_header_id|>") && Has(jinja, "<|eot_id|>")) {
    return ChatTemplate(ChatFamily::kLlama3, "", begin);
  }
  return absl::UnimplementedError(absl::StrCat(
      "chat_template is of no known family (chatml, llama3)", kByHand));
}

absl::StatusOr<std::string> ChatTemplate::Render(
    const std::vector<ChatMessage>& messages,
    const ChatRenderOptions& options) const {
  if (messages.empty()) {
    return absl::InvalidArgumentError("no chat messages to render");
  }
  const bool chatml = family_ == ChatFamily::kChatMl;
  std::string text = chatml ? "" : begin_token_;
  const auto open = [&](const std::string& role) {
    if (chatml) return absl::StrAppend(&text, "<|im_start|>", role, "\n");
    absl::StrAppend(&text, "<|start_header_id|>", role,
                    "<|end_header_id|>\n\n");
  };
  const auto turn = [&](const std::string& role, const std::string& content) {
    open(role);
    if (chatml) {
      absl::StrAppend(&text, content, "<|im_end|>\n");
    } else {
      absl::StrAppend(&text, Trim(content), "<|eot_id|>");
    }
  };
  if (options.default_system_prompt && !default_system_.empty() &&
      messages[0].role != "system") {
    turn("system", default_system_);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return absl::InvalidArgumentError(
          absl::StrCat("message ", i, " has role \"", role.substr(0, 64),
                       "\", expected system, user or assistant"));
    }
    turn(role, messages[i].content);
  }
  if (options.add_generation_prompt) open("assistant");
  return text;
}

}  // namespace mpo::text
