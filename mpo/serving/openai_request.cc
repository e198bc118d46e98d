// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/openai_request.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/json_file.h"

namespace mpo::serving {
namespace {

using Json = nlohmann::json;

constexpr int kMaxSamples = 128;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxPrompts = 1024;

constexpr size_t kShownBytes = 80;  // Of a value that is not served.

absl::Status Bad(const std::string& key, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(key, ": ", what));
}

// Reads the keys of one request and remembers which were read.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  // Null where the key is absent or null.
  const Json* Find(const char* key) {
    read_.insert(key);
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  absl::Status Number(const char* key, double low, double high, double* out) {
    const Json* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_number()) return Bad(key, "expected a number");
    const double number = value->get<double>();
    if (!(number >= low && number <= high)) {
      return Bad(key, absl::StrCat("expected ", low, " to ", high, ", found ",
                                   number));
    }
    *out = number;
    return absl::OkStatus();
  }

  absl::Status Integer(const char* key, int64_t low, int64_t high,
                       int64_t* out) {
    const Json* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_number_integer()) return Bad(key, "expected an integer");
    const int64_t number = value->get<int64_t>();
    if (number < low || number > high) {
      return Bad(key, absl::StrCat("expected ", low, " to ", high, ", found ",
                                   number));
    }
    *out = number;
    return absl::OkStatus();
  }

  absl::Status Bool(const char* key, bool* out) {
    const Json* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_boolean()) return Bad(key, "expected true or false");
    *out = value->get<bool>();
    return absl::OkStatus();
  }

  // The value the API takes for granted and no other.
  absl::Status Only(const char* key, const Json& expected) {
    const Json* value = Find(key);
    if (value == nullptr || *value == expected) return absl::OkStatus();
    return Bad(key,
               absl::StrCat("only ", expected.dump(), " is served, found ",
                            value->dump(-1, ' ', true).substr(0, kShownBytes)));
  }

  // Keys that nobody read.
  absl::Status Finish() {
    static const std::set<std::string> kNoEffect = {
        "user",         "metadata",          "store",
        "service_tier", "safety_identifier", "prompt_cache_key"};
    for (const auto& [key, value] : json_.items()) {
      if (read_.count(key) == 0 && kNoEffect.count(key) == 0)
        return Bad(key, "not served; leave it out");
    }
    return absl::OkStatus();
  }

 private:
  const Json& json_;
  std::set<std::string> read_;
};

absl::Status ReadStop(Reader& reader, std::vector<std::string>& stop) {
  const Json* value = reader.Find("stop");
  if (value == nullptr) return absl::OkStatus();
  const auto take = [&](const Json& one) -> absl::Status {
    if (!one.is_string() || one.get_ref<const std::string&>().empty())
      return Bad("stop", "expected a text or a list of texts, none empty");
    stop.push_back(one.get<std::string>());
    return absl::OkStatus();
  };
  if (!value->is_array()) return take(*value);
  for (const Json& one : *value) MPO_RETURN_IF_ERROR(take(one));
  if (stop.size() > kMaxStops)
    return Bad("stop", absl::StrCat("expected at most ", kMaxStops, " texts"));
  return absl::OkStatus();
}

// What both APIs share.
absl::Status ReadCommon(Reader& reader, CompletionRequest& request) {
  const Json* model = reader.Find("model");
  if (model == nullptr || !model->is_string())
    return Bad("model", "expected the name of a model");
  request.model = model->get<std::string>();
  SamplingOptions& sampling = request.sampling;
  sampling.temperature = 1;
  MPO_RETURN_IF_ERROR(
      reader.Number("temperature", 0, 10, &sampling.temperature));
  MPO_RETURN_IF_ERROR(reader.Number("top_p", 1e-9, 1, &sampling.top_p));
  MPO_RETURN_IF_ERROR(reader.Number("min_p", 0, 1, &sampling.min_p));
  MPO_RETURN_IF_ERROR(reader.Number("repetition_penalty", 1e-3, 10,
                                    &sampling.repetition_penalty));
  int64_t top_k = 0, least = 0, n = 1;
  MPO_RETURN_IF_ERROR(reader.Integer("top_k", -1, 1 << 30, &top_k));
  MPO_RETURN_IF_ERROR(reader.Integer("min_tokens", 0, 1 << 30, &least));
  MPO_RETURN_IF_ERROR(reader.Integer("n", 1, kMaxSamples, &n));
  sampling.top_k = static_cast<int>(std::max<int64_t>(top_k, 0));
  sampling.min_new_tokens = static_cast<int>(least);
  request.n = static_cast<int>(n);
  if (const Json* seed = reader.Find("seed"); seed != nullptr) {
    if (!seed->is_number_integer()) return Bad("seed", "expected an integer");
    request.seed = static_cast<uint64_t>(seed->get<int64_t>());
  }
  MPO_RETURN_IF_ERROR(reader.Only("frequency_penalty", 0));
  MPO_RETURN_IF_ERROR(reader.Only("presence_penalty", 0));
  MPO_RETURN_IF_ERROR(reader.Only("logit_bias", Json::object()));
  MPO_RETURN_IF_ERROR(ReadStop(reader, request.stop));
  MPO_RETURN_IF_ERROR(reader.Bool("stream", &request.stream));
  if (const Json* options = reader.Find("stream_options"); options != nullptr) {
    if (!request.stream)
      return Bad("stream_options", "only together with stream: true");
    if (!options->is_object())
      return Bad("stream_options", "expected an object");
    Reader inner(*options);
    MPO_RETURN_IF_ERROR(inner.Bool("include_usage", &request.include_usage));
    MPO_RETURN_IF_ERROR(inner.Only("include_obfuscation", false));
    MPO_RETURN_IF_ERROR(inner.Finish());
  }
  return absl::OkStatus();
}

absl::Status SetMaxTokens(int64_t tokens, CompletionRequest& request) {
  request.sampling.max_new_tokens = static_cast<int>(tokens);
  if (request.sampling.min_new_tokens > tokens) {
    return Bad("min_tokens",
               absl::StrCat("expected at most max_tokens, ", tokens, ", found ",
                            request.sampling.min_new_tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ContentOf(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    return Bad("messages", "content: expected a text or a list of text parts");
  std::string text;
  for (const Json& part : content) {
    if (!part.is_object() || part.value("type", Json()) != "text" ||
        !part.contains("text") || !part["text"].is_string()) {
      return Bad("messages", "content: only parts of type text are served");
    }
    text += part["text"].get<std::string>();
  }
  return text;
}

absl::Status ReadMessages(Reader& reader, CompletionRequest& request) {
  const Json* messages = reader.Find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty())
    return Bad("messages", "expected a list of messages");
  for (const Json& message : *messages) {
    if (!message.is_object() || !message.contains("role") ||
        !message["role"].is_string() || !message.contains("content")) {
      return Bad("messages", "expected objects with role and content");
    }
    std::string role = message["role"].get<std::string>();
    if (role == "developer") role = "system";  // Its later name.
    if (role != "system" && role != "user" && role != "assistant") {
      return Bad("messages", absl::StrCat("role: expected system, user or "
                                          "assistant, found ",
                                          role));
    }
    for (const auto& [key, value] : message.items()) {
      const bool known = key == "role" || key == "content" || key == "name";
      if (!known && !value.is_null() && !(value.is_array() && value.empty()))
        return Bad("messages", absl::StrCat(key, ": not served"));
    }
    MPO_ASSIGN_OR_RETURN(std::string content, ContentOf(message["content"]));
    request.messages.push_back({std::move(role), std::move(content)});
  }
  return absl::OkStatus();
}

absl::Status ReadPrompts(Reader& reader, CompletionRequest& request) {
  const Json* prompt = reader.Find("prompt");
  const auto tokens_of = [](const Json& list,
                            std::vector<int32_t>* out) -> absl::Status {
    for (const Json& token : list) {
      if (!token.is_number_integer() || token.get<int64_t>() < 0 ||
          token.get<int64_t>() > INT32_MAX) {
        return Bad("prompt", "expected token ids of 0 or more");
      }
      out->push_back(token.get<int32_t>());
    }
    return absl::OkStatus();
  };
  if (prompt != nullptr && prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
    return absl::OkStatus();
  }
  if (prompt == nullptr || !prompt->is_array() || prompt->empty()) {
    return Bad("prompt",
               "expected a text, a list of texts, token ids or a "
               "list of lists of token ids");
  }
  if (prompt->size() > kMaxPrompts && !prompt->front().is_number())
    return Bad("prompt", absl::StrCat("expected at most ", kMaxPrompts));
  if (prompt->front().is_number()) {
    std::vector<int32_t> tokens;
    MPO_RETURN_IF_ERROR(tokens_of(*prompt, &tokens));
    request.prompts.emplace_back(std::move(tokens));
    return absl::OkStatus();
  }
  for (const Json& one : *prompt) {
    if (one.is_string()) {
      request.prompts.emplace_back(one.get<std::string>());
    } else if (one.is_array()) {
      std::vector<int32_t> tokens;
      MPO_RETURN_IF_ERROR(tokens_of(one, &tokens));
      request.prompts.emplace_back(std::move(tokens));
    } else {
      return Bad("prompt", "expected texts or lists of token ids");
    }
  }
  return absl::OkStatus();
}

// Runs `read` on the parsed body; anything left over is refused.
template <typename Read>
absl::StatusOr<CompletionRequest> Parse(std::string_view body, Read read) {
  // Of bounded depth: what walks a value may recurse.
  MPO_ASSIGN_OR_RETURN(const Json json, text::ParseJsonObject(body, "body"));
  Reader reader(json);
  CompletionRequest request;
  MPO_RETURN_IF_ERROR(ReadCommon(reader, request));
  MPO_RETURN_IF_ERROR(read(reader, request));
  MPO_RETURN_IF_ERROR(reader.Finish());
  return request;
}

}  // namespace

absl::StatusOr<CompletionRequest> ParseChatRequest(std::string_view body) {
  return Parse(
      body, [](Reader& reader, CompletionRequest& request) -> absl::Status {
        MPO_RETURN_IF_ERROR(ReadMessages(reader, request));
        int64_t tokens = -1;
        MPO_RETURN_IF_ERROR(reader.Integer("max_tokens", 1, 1 << 30, &tokens));
        MPO_RETURN_IF_ERROR(
            reader.Integer("max_completion_tokens", 1, 1 << 30, &tokens));
        request.max_tokens_set = tokens > 0;
        if (tokens > 0) MPO_RETURN_IF_ERROR(SetMaxTokens(tokens, request));
        MPO_RETURN_IF_ERROR(reader.Bool("logprobs", &request.logprobs));
        int64_t top = 0;
        MPO_RETURN_IF_ERROR(reader.Integer("top_logprobs", 0, 20, &top));
        if (top > 0 && !request.logprobs)
          return Bad("top_logprobs", "only together with logprobs: true");
        request.top_logprobs = static_cast<int>(top);
        MPO_RETURN_IF_ERROR(reader.Only("response_format", {{"type", "text"}}));
        MPO_RETURN_IF_ERROR(reader.Only("tools", Json::array()));
        MPO_RETURN_IF_ERROR(reader.Only("tool_choice", "none"));
        return reader.Only("modalities", Json::array({"text"}));
      });
}

absl::StatusOr<CompletionRequest> ParseCompletionRequest(
    std::string_view body) {
  return Parse(
      body, [](Reader& reader, CompletionRequest& request) -> absl::Status {
        MPO_RETURN_IF_ERROR(ReadPrompts(reader, request));
        int64_t tokens = 16;
        MPO_RETURN_IF_ERROR(reader.Bool("echo", &request.echo));
        MPO_RETURN_IF_ERROR(reader.Integer("max_tokens", 0, 1 << 30, &tokens));
        if (tokens == 0 && !request.echo)
          return Bad("max_tokens", "0 only together with echo: true");
        request.max_tokens_set = true;
        MPO_RETURN_IF_ERROR(SetMaxTokens(tokens, request));
        if (reader.Find("logprobs") != nullptr) {
          int64_t top = 0;
          MPO_RETURN_IF_ERROR(reader.Integer("logprobs", 0, 20, &top));
          request.logprobs = true;
          request.top_logprobs = static_cast<int>(top);
        }
        MPO_RETURN_IF_ERROR(reader.Only("suffix", ""));
        return reader.Only("best_of", request.n);
      });
}

}  // namespace mpo::serving
