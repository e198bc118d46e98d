// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/openai_response.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "mpo/text/utf8.h"

namespace mpo::serving {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Event(const Json& json) {
  return absl::StrCat("data: ", Dump(json), "\n\n");
}

Json FinishOf(const SampleNews& news) {
  if (!news.over) return nullptr;
  return news.finish_reason == FinishReason::kLength ? "length" : "stop";
}

Json Usage(int64_t prompt_tokens, int64_t completion_tokens) {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens}};
}

}  // namespace

Json ResponseWriter::Head(const char* object) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", model_}};
}

std::string ResponseWriter::TextOf(int32_t token) const {
  std::string bytes = BytesOf(token);
  std::string text;
  text::DrainUtf8(bytes, /*final=*/true, text);
  return text;
}

std::string ResponseWriter::BytesOf(int32_t token) const {
  return tokenizer_.BytesOf(token).value_or("");
}

Json ResponseWriter::Logprobs(const std::vector<ServedToken>& tokens,
                              int64_t& text_offset) const {
  if (!logprobs_) return nullptr;
  if (chat_) {
    Json content = Json::array();
    for (const ServedToken& token : tokens) {
      const auto entry = [&](int32_t id, float logprob) {
        Json bytes = Json::array();
        for (const char c : BytesOf(id))
          bytes.push_back(static_cast<uint8_t>(c));
        return Json{
            {"token", TextOf(id)}, {"logprob", logprob}, {"bytes", bytes}};
      };
      Json one = entry(token.token, *token.logprob);  // Chats echo nothing.
      one["top_logprobs"] = Json::array();
      for (const auto& top : token.top)
        one["top_logprobs"].push_back(entry(top.token, top.logprob));
      content.push_back(std::move(one));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
  Json json{{"tokens", Json::array()},
            {"token_logprobs", Json::array()},
            {"top_logprobs", Json::array()},
            {"text_offset", Json::array()}};
  for (const ServedToken& token : tokens) {
    const std::string text = TextOf(token.token);
    json["tokens"].push_back(text);
    json["token_logprobs"].push_back(
        token.logprob.has_value() ? Json(*token.logprob) : Json(nullptr));
    json["text_offset"].push_back(text_offset);
    // In characters, as OpenAI counts: bytes that begin one, also of one that
    // is split over tokens.
    const std::string bytes = BytesOf(token.token);
    text_offset += std::count_if(bytes.begin(), bytes.end(),
                                 [](char c) { return (c & 0xC0) != 0x80; });
    Json top = token.logprob.has_value() ? Json::object() : Json(nullptr);
    // Of tokens with the same text the best; the one that stands there in any
    // case.
    for (const auto& one : token.top)
      top.emplace(TextOf(one.token), one.logprob);
    if (!token.top.empty()) top.emplace(text, *token.logprob);
    json["top_logprobs"].push_back(std::move(top));
  }
  return json;
}

Json ResponseWriter::Choice(int index, const SampleNews& news) const {
  Json json{{"index", index}};
  if (chat_) {
    json["message"] = {
        {"role", "assistant"}, {"content", news.text}, {"refusal", nullptr}};
  } else {
    json["text"] = news.text;
  }
  int64_t text_offset = 0;
  json["logprobs"] = Logprobs(news.tokens, text_offset);
  json["finish_reason"] = FinishOf(news);
  return json;
}

Json ResponseWriter::Whole(std::vector<Json> choices, int64_t prompt_tokens,
                           int64_t completion_tokens) const {
  Json json = Head(chat_ ? "chat.completion" : "text_completion");
  json["choices"] = std::move(choices);
  json["usage"] = Usage(prompt_tokens, completion_tokens);
  return json;
}

std::string ResponseWriter::Chunk(int index, const SampleNews& news,
                                  ToldChoice& told) const {
  Json json = Head(chat_ ? "chat.completion.chunk" : "text_completion");
  Json choice{{"index", index}};
  if (chat_) {
    Json delta = Json::object();
    if (!told.opened) delta["role"] = "assistant";
    if (!told.opened || !news.text.empty()) delta["content"] = news.text;
    told.opened = true;
    choice["delta"] = std::move(delta);
  } else {
    choice["text"] = news.text;
  }
  choice["logprobs"] = Logprobs(news.tokens, told.text_offset);
  choice["finish_reason"] = FinishOf(news);
  json["choices"] = Json::array({std::move(choice)});
  return Event(json);
}

std::string ResponseWriter::UsageChunk(int64_t prompt_tokens,
                                       int64_t completion_tokens) const {
  Json json = Head(chat_ ? "chat.completion.chunk" : "text_completion");
  json["choices"] = Json::array();
  json["usage"] = Usage(prompt_tokens, completion_tokens);
  return Event(json);
}

HttpError MakeError(int status, const std::string& message,
                    const std::string& param, const std::string& code) {
  const char* type = status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : status >= 500 ? "server_error"
                                     : "invalid_request_error";
  Json error{{"message", message},
             {"type", type},
             {"param", param.empty() ? Json(nullptr) : Json(param)},
             {"code", code.empty() ? Json(nullptr) : Json(code)}};
  return {status, Dump({{"error", std::move(error)}})};
}

HttpError ErrorOf(const absl::Status& status) {
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument: {
      // Messages about a request begin with its key.
      const size_t colon = message.find(':');
      const bool key =
          colon != std::string::npos && colon < 32 && message.find(' ') > colon;
      return MakeError(400, message, key ? message.substr(0, colon) : "", "");
    }
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnimplemented:
      return MakeError(400, message, "", "");
    case absl::StatusCode::kResourceExhausted:
      return MakeError(429, message, "", "queue_full");
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      if (absl::StartsWith(message, "out of memory"))
        return MakeError(503, message, "", "out_of_memory");
      return MakeError(
          503, message.empty() ? "the server is shutting down" : message, "",
          "shutting_down");
    default:
      return MakeError(500, message, "", "");
  }
}

}  // namespace mpo::serving
