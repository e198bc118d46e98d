// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/chat_template.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/chat_turns.h"
#include "mpo/text/jinja_words.h"
#include "mpo/text/json_file.h"

namespace mpo::text {
namespace {

using nlohmann::json;
using Words = std::set<std::string>;

constexpr uint64_t kMaxConfigBytes = uint64_t{8} << 20;
constexpr uint64_t kMaxJinjaBytes = uint64_t{1} << 20;

// Families that may be named by hand; a system text of "" is read from the
// template, where there is one.
struct FamilyName {
  const char* name;
  ChatFamily family;
  const char* system;
};
constexpr FamilyName kFamilies[] = {
    {"chatml", ChatFamily::kChatMl, ""},
    {"smollm2", ChatFamily::kChatMl,
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"qwen2.5", ChatFamily::kChatMl,
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {"qwen3", ChatFamily::kQwen3, ""},
    {"llama3", ChatFamily::kLlama3, ""},
    {"llama3.1", ChatFamily::kLlama31, ""},
};

std::string ByHand() {
  return absl::StrCat(
      "; to choose a family by hand, add \"mpo_chat_family\": NAME to "
      "tokenizer_config.json, or give --chat-family NAME to mpo generate, "
      "serve "
      "or tokenize; NAME is one of ",
      absl::StrJoin(ChatTemplate::FamilyNames(), ", "));
}

bool Has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// Words that change nothing in plain system, user and assistant turns without
// tools, which is all that is rendered here.
Words WordsOf(ChatFamily family) {
  Words words = {"for",
                 "in",
                 "endfor",
                 "if",
                 "elif",
                 "else",
                 "endif",
                 "set",
                 "not",
                 "and",
                 "or",
                 "is",
                 "defined",
                 "none",
                 "None",
                 "true",
                 "false",
                 "message",
                 "messages",
                 "role",
                 "content",
                 "loop",
                 "first",
                 "last",
                 "index0",
                 "index",
                 "tools",
                 "tool",
                 "tojson",
                 "tool_calls",
                 "tool_call",
                 "function",
                 "name",
                 "arguments",
                 "bos_token",
                 "add_generation_prompt",
                 "length",
                 "string",
                 "namespace",
                 "ns",
                 "system_message",
                 "loop_messages"};
  if (family == ChatFamily::kQwen3) {
    words.insert({"multi_step_tool", "last_query_index", "startswith",
                  "endswith", "reasoning_content", "split", "lstrip", "rstrip",
                  "strip", "enable_thinking"});
  }
  if (family == ChatFamily::kLlama3) words.insert("trim");
  if (family == ChatFamily::kLlama31) {
    words.insert({"trim", "custom_tools", "builtin_tools",
                  "tools_in_user_message", "date_string", "strftime_now",
                  "reject", "join", "indent", "t", "first_user_message",
                  "raise_exception", "items", "mapping", "iterable", "arg_name",
                  "arg_val"});
  }
  return words;
}

absl::Status CheckWords(ChatFamily family, const JinjaWords& found) {
  const Words known = WordsOf(family);
  for (const std::string& word : found.words) {
    if (known.count(word) > 0) continue;
    return absl::UnimplementedError(
        absl::StrCat("chat_template uses \"", word.substr(0, 64),
                     "\", which its family does not have", ByHand()));
  }
  const char* problem = nullptr;
  if (found.has_text) problem = "writes text outside of {{ }}";
  if (found.words.count("add_generation_prompt") == 0)
    problem = "does not look at add_generation_prompt";
  if (problem == nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("chat_template ", problem, ByHand()));
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

// The date that a Llama 3.1 template takes where it is not told one:
// date_string = "26 Jul 2024", in either kind of quotes.
std::optional<std::string> NamedDate(const std::string& jinja) {
  constexpr char kBegin[] = "date_string = ";
  for (size_t at = jinja.find(kBegin); at != std::string::npos;
       at = jinja.find(kBegin, at + 1)) {
    const size_t begin = at + sizeof(kBegin);
    if (begin > jinja.size()) break;
    const char quote = jinja[begin - 1];
    if (quote != '\'' && quote != '"') continue;
    const size_t end = jinja.find(quote, begin);
    if (end != std::string::npos) return jinja.substr(begin, end - begin);
  }
  return std::nullopt;
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

}  // namespace

const std::vector<std::string>& ChatTemplate::FamilyNames() {
  static const auto& names = *[] {
    auto* list = new std::vector<std::string>;
    for (const FamilyName& family : kFamilies) list->emplace_back(family.name);
    return list;
  }();
  return names;
}

absl::StatusOr<ChatTemplate> ChatTemplate::Load(
    const std::filesystem::path& dir, std::string_view family) {
  const std::filesystem::path path = dir / "tokenizer_config.json";
  MPO_ASSIGN_OR_RETURN(const std::string bytes,
                       ReadFile(path, kMaxConfigBytes));
  const std::filesystem::path jinja_path = dir / "chat_template.jinja";
  const auto jinja = ReadFile(jinja_path, kMaxJinjaBytes);
  if (!jinja.ok() && !absl::IsNotFound(jinja.status())) return jinja.status();
  auto result = Parse(bytes, jinja.value_or(""), family);
  if (result.ok()) return result;
  return absl::Status(result.status().code(),
                      absl::StrCat(path.string(), ": ",
                                   std::string(result.status().message())));
}

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view config_json,
                                                 std::string_view jinja_file,
                                                 std::string_view family) {
  MPO_ASSIGN_OR_RETURN(const json config,
                       ParseJsonObject(config_json, "tokenizer config"));
  const std::string begin = TokenText(config, "bos_token");
  const json by_hand = config.value("mpo_chat_family", json());
  const std::optional<std::string> found =
      jinja_file.empty() ? TemplateText(config) : std::string(jinja_file);
  // Literals may write the line break as an escape.
  const std::string jinja =
      absl::StrReplaceAll(found.value_or(""), {{"\\n", "\n"}});
  if (!family.empty()) return Named(family, jinja, begin);
  if (!by_hand.is_null()) {
    return Named(by_hand.is_string() ? by_hand.get<std::string>()
                                     : by_hand.dump().substr(0, 64),
                 jinja, begin);
  }
  if (!found.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no chat_template", ByHand()));
  }
  return Recognise(jinja, begin);
}

absl::StatusOr<ChatTemplate> ChatTemplate::Named(
    std::string_view family, const std::string& jinja,
    const std::string& begin_token) {
  for (const FamilyName& entry : kFamilies) {
    if (family != entry.name) continue;
    const bool chatml = entry.family == ChatFamily::kChatMl;
    const std::string system = entry.system;
    return ChatTemplate(
        entry.family, chatml && system.empty() ? DefaultSystem(jinja) : system,
        begin_token);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("chat family is \"", std::string(family.substr(0, 64)),
                   "\", expected one of ", absl::StrJoin(FamilyNames(), ", ")));
}

absl::StatusOr<ChatTemplate> ChatTemplate::Recognise(
    const std::string& jinja, const std::string& begin_token) {
  const JinjaWords found = ReadJinja(jinja);
  std::optional<ChatFamily> family;
  std::string date;
  if (Has(jinja, "<|im_start|>") && Has(jinja, "<|im_end|>")) {
    const bool qwen3 = found.words.count("last_query_index") > 0 &&
                       found.words.count("enable_thinking") > 0;
    family = qwen3 ? ChatFamily::kQwen3 : ChatFamily::kChatMl;
  } else if (Has(jinja, "<|start_header_id|>") && Has(jinja, "<|eot_id|>")) {
    const auto named = NamedDate(jinja);
    date = named.value_or("");
    family = named.has_value() ? ChatFamily::kLlama31 : ChatFamily::kLlama3;
  }
  if (!family.has_value()) {
    return absl::UnimplementedError(
        absl::StrCat("chat_template is of no known family", ByHand()));
  }
  MPO_RETURN_IF_ERROR(CheckWords(*family, found));
  const bool chatml = *family == ChatFamily::kChatMl;
  return ChatTemplate(*family, chatml ? DefaultSystem(jinja) : "", begin_token,
                      date);
}

std::string ChatTemplate::LlamaSystem(std::string_view content,
                                      const ChatRenderOptions& options) const {
  return absl::StrCat("Cutting Knowledge Date: December 2023\nToday Date: ",
                      options.date.empty() ? date_ : options.date, "\n\n",
                      StripSpaces(content));
}

absl::StatusOr<std::string> ChatTemplate::Render(
    const std::vector<ChatMessage>& messages,
    const ChatRenderOptions& options) const {
  if (messages.empty()) {
    return absl::InvalidArgumentError("no chat messages to render");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return absl::InvalidArgumentError(
          absl::StrCat("message ", i, " has role \"", role.substr(0, 64),
                       "\", expected system, user or assistant"));
    }
  }
  const bool llama =
      family_ == ChatFamily::kLlama3 || family_ == ChatFamily::kLlama31;
  const bool own_system = messages[0].role == "system";
  std::string text = llama ? begin_token_ : "";
  const auto turn = [&](const std::string& role, std::string_view content) {
    llama ? AppendLlamaTurn(role, StripSpaces(content), text)
          : AppendChatMlTurn(role, content, text);
  };
  size_t done = 0;
  if (options.default_system_prompt && family_ == ChatFamily::kLlama31) {
    AppendLlamaTurn("system",
                    LlamaSystem(own_system ? messages[0].content : "", options),
                    text);
    done = own_system ? 1 : 0;
  } else if (options.default_system_prompt && !default_system_.empty() &&
             !own_system) {
    turn("system", default_system_);
  }
  const size_t question = LastQuestion(messages);
  for (size_t i = done; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (family_ == ChatFamily::kQwen3 && message.role == "assistant") {
      turn(message.role, Qwen3Answer(message.content, i > question,
                                     i + 1 == messages.size()));
    } else {
      turn(message.role, message.content);
    }
  }
  if (!options.add_generation_prompt) return text;
  if (llama) {
    text += "<|start_header_id|>assistant<|end_header_id|>\n\n";
  } else {
    text += "<|im_start|>assistant\n";
    if (family_ == ChatFamily::kQwen3 && !options.thinking)
      text += "<think>\n\n</think>\n\n";
  }
  return text;
}

}  // namespace mpo::text
