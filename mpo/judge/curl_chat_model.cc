// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "mpo/http/backoff.h"
#include "mpo/http/exchange.h"
#include "mpo/judge/chat_client.h"

namespace mpo::judge {
namespace {

using Json = nlohmann::json;

// What one attempt means.
struct Outcome {
  absl::Status status;
  std::string answer;
  const char* name = "ok";
  bool retry = false;
  double retry_after = -1;
  bool reject_schema = false;  // The server does not know response_format.
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

absl::StatusOr<std::string> UrlOf(std::string base) {
  if (!absl::StartsWith(base, "http://") &&
      !absl::StartsWith(base, "https://")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected a judge's URL with http:// or https://, got \"", base, "\""));
  }
  while (absl::EndsWith(base, "/")) base.pop_back();
  if (absl::EndsWith(base, "/chat/completions")) return base;
  if (!absl::EndsWith(base, "/v1")) base += "/v1";
  return base + "/chat/completions";
}

// A count of the usage, which is a statistic: what is no number counts 0.
int64_t Count(const Json& usage, const char* key) {
  const auto it = usage.find(key);
  return it != usage.end() && it->is_number_integer() ? it->get<int64_t>() : 0;
}

// Reads a chat completion; `accept_truncated` as ChatOptions.
Outcome ReadCompletion(const std::string& body, bool accept_truncated) {
  Outcome outcome;
  const auto fail = [&](const std::string& what) {
    outcome.status = absl::DataLossError(what);
    outcome.name = "parse_error";
    outcome.retry = true;
    return outcome;
  };
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return fail("the answer is not JSON");
  try {
    const Json& choice = json.at("choices").at(0);
    const Json& message = choice.at("message");
    if (message.contains("refusal") && message["refusal"].is_string() &&
        !message["refusal"].get<std::string>().empty()) {
      outcome.status = absl::FailedPreconditionError(
          "the model declined: " + message["refusal"].get<std::string>());
      outcome.name = "refused";
      return outcome;
    }
    if (json.contains("usage") && json["usage"].is_object()) {
      outcome.prompt_tokens = Count(json["usage"], "prompt_tokens");
      outcome.completion_tokens = Count(json["usage"], "completion_tokens");
    }
    outcome.answer = message.at("content").get<std::string>();
    const bool cut =
        choice.contains("finish_reason") && choice["finish_reason"] == "length";
    if (cut && !accept_truncated) {
      return fail("the answer was cut off at max_tokens");
    }
  } catch (const std::exception& error) {
    return fail(
        absl::StrCat("the answer is no chat completion: ", error.what()));
  }
  if (outcome.answer.empty()) return fail("the answer is empty");
  return outcome;
}

Outcome Fail(absl::Status status, const char* name, bool retry) {
  Outcome outcome;
  outcome.status = std::move(status);
  outcome.name = name;
  outcome.retry = retry;
  return outcome;
}

// What an exchange without a completion means.
Outcome ReadFailure(const http::Reply& reply, bool sent_schema) {
  absl::Status status = http::StatusOf(reply);
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
      return Fail(std::move(status), "parse_error", true);
    case absl::StatusCode::kDeadlineExceeded:
      return Fail(std::move(status), "timeout", true);
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable: {
      const bool broken = reply.transfer == http::Reply::Transfer::kBroken;
      const bool busy = absl::IsResourceExhausted(status);
      Outcome outcome = Fail(std::move(status),
                             broken ? "connection"
                             : busy ? "http_429"
                                    : "http_5xx",
                             true);
      outcome.retry_after = reply.retry_after;
      return outcome;
    }
    default:
      break;
  }
  Outcome outcome = Fail(std::move(status), "http_4xx", false);
  outcome.reject_schema =
      sent_schema && (reply.status == 400 || reply.status == 422);
  return outcome;
}

}  // namespace

class CurlChatModel::State {
 public:
  State(CurlChatModelOptions given, std::string url, Clock& clock)
      : options(std::move(given)),
        url_(std::move(url)),
        clock_(clock),
        breaker(options.breaker, clock),
        backoff(options.backoff, options.max_pause, options.jitter_seed) {
    if (!options.sleep) options.sleep = http::Wait;
  }

  Outcome Attempt(const std::vector<ChatMessage>& messages,
                  const ChatOptions& ask);
  CurlChatModelOptions options;

 private:
  std::string Body(const std::vector<ChatMessage>& messages,
                   const ChatOptions& ask, bool schema) const;

  const std::string url_;
  Clock& clock_;

 public:
  CircuitBreaker breaker;
  http::Backoff backoff;
  std::atomic<int64_t> requests{0};
  std::atomic<int64_t> failures{0};

 private:
  std::atomic<bool> no_schema_{false};
};

std::string CurlChatModel::State::Body(const std::vector<ChatMessage>& messages,
                                       const ChatOptions& ask,
                                       bool schema) const {
  Json json{{"model", options.model},
            {"temperature", ask.temperature},
            {"max_tokens", ask.max_tokens},
            {"messages", Json::array()}};
  for (const ChatMessage& message : messages) {
    json["messages"].push_back(
        {{"role", message.role}, {"content", message.content}});
  }
  if (schema) {
    json["response_format"] = {
        {"type", "json_schema"},
        {"json_schema",
         {{"name", "answer"},
          {"strict", true},
          {"schema", Json::parse(ask.response_schema, nullptr, false)}}}};
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Outcome CurlChatModel::State::Attempt(const std::vector<ChatMessage>& messages,
                                      const ChatOptions& ask) {
  if (!breaker.Admit()) {
    Outcome outcome =
        Fail(absl::UnavailableError(
                 "the judge keeps failing, its circuit is open for a while"),
             "circuit_open", true);
    if (options.on_attempt)
      options.on_attempt(
          {.outcome = outcome.name, .elapsed = absl::ZeroDuration()});
    return outcome;
  }
  const absl::Time began = clock_.Steady();
  const bool schema = !ask.response_schema.empty() && !no_schema_;
  ++requests;
  const std::string body = Body(messages, ask, schema);
  const http::Reply reply = http::Exchange(
      {.url = url_,
       .bearer = options.api_key.Reveal(),
       .body = &body,
       .timeout = options.timeout,
       .max_reply_bytes = static_cast<size_t>(options.max_body_bytes)},
      ask.stop);
  const bool answered =
      reply.transfer == http::Reply::Transfer::kWhole && reply.status == 200;
  Outcome outcome = answered ? ReadCompletion(reply.body, ask.accept_truncated)
                             : ReadFailure(reply, schema);
  const bool stopped = ask.stop.stop_requested();  // Read once.
  if (stopped && !outcome.status.ok()) {
    outcome = Fail(absl::CancelledError("stopped"), "cancelled", false);
    breaker.Abandon();
  } else if (outcome.status.ok() && ask.accept) {
    outcome.status = ask.accept(outcome.answer);
    if (!outcome.status.ok()) {
      outcome.name = "parse_error";
      outcome.retry = true;
    }
  }
  if (outcome.reject_schema) {
    no_schema_ = true;
    outcome.retry = true;
  }
  if (!outcome.status.ok()) ++failures;
  // The circuit is about whether the server answers, not about what it says.
  if (!stopped) {
    const bool down =
        outcome.status.code() == absl::StatusCode::kUnavailable ||
        outcome.status.code() == absl::StatusCode::kDeadlineExceeded;
    down ? breaker.Fail() : breaker.Succeed();
  } else if (outcome.status.ok()) {
    breaker.Succeed();
  }
  if (options.on_attempt) {
    options.on_attempt({.outcome = outcome.name,
                        .elapsed = clock_.Steady() - began,
                        .prompt_tokens = outcome.prompt_tokens,
                        .completion_tokens = outcome.completion_tokens});
  }
  return outcome;
}

absl::StatusOr<std::unique_ptr<CurlChatModel>> CurlChatModel::Create(
    CurlChatModelOptions options, Clock& clock) {
  absl::StatusOr<std::string> url = UrlOf(options.base_url);
  if (!url.ok()) return url.status();
  if (options.attempts < 1 || options.timeout <= absl::ZeroDuration() ||
      options.backoff < absl::ZeroDuration() || options.max_body_bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "judge ", options.base_url,
        ": expected at least 1 attempt, a timeout above 0, a backoff of 0 or "
        "more and a body limit of 1 byte or more"));
  }
  return std::unique_ptr<CurlChatModel>(new CurlChatModel(
      std::make_unique<State>(std::move(options), *std::move(url), clock)));
}

CurlChatModel::CurlChatModel(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
CurlChatModel::~CurlChatModel() = default;

absl::StatusOr<std::string> CurlChatModel::Complete(
    const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  Outcome outcome;
  for (int attempt = 0; attempt < state_->options.attempts; ++attempt) {
    if (attempt > 0) {
      absl::Duration pause = state_->backoff.Pause(attempt - 1);
      if (outcome.retry_after >= 0) {
        const absl::Duration asked = absl::Seconds(outcome.retry_after);
        if (asked > state_->options.max_pause) break;
        pause = std::max(pause, asked);
      }
      if (outcome.reject_schema) pause = absl::ZeroDuration();
      if (!state_->options.sleep(pause, options.stop)) {
        return absl::CancelledError("stopped");
      }
    }
    outcome = state_->Attempt(messages, options);
    if (outcome.status.ok()) return outcome.answer;
    if (!outcome.retry) break;
  }
  return outcome.status;
}

ChatModelStatus CurlChatModel::status() const {
  return {.requests = state_->requests,
          .failures = state_->failures,
          .circuit = state_->breaker.state()};
}

}  // namespace mpo::judge
