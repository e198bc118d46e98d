// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/http/secret.h"
#include "mpo/judge/circuit_breaker.h"
#include "mpo/types/prompt.h"

namespace mpo::judge {

// What one completion is asked with.
struct ChatOptions {
  double temperature = 0.02;  // [0, 2].
  int max_tokens = 1024;      // Of the answer, >= 1.
  // JSON schema (as JSON text) the answer must follow; empty = free text. Sent
  // as response_format; a server that rejects the field gets none from then
  // on, so callers still check what comes back.
  std::string response_schema;
  // Return an answer that was cut off at max_tokens instead of failing.
  bool accept_truncated = false;
  // Where set, judges the answer's text: an answer for which this is not OK is
  // a failed attempt like any other, retried while attempts are left. The last
  // status comes back to the caller. Called on the calling thread.
  std::function<absl::Status(const std::string& answer)> accept;
  // Ends the call early with CANCELLED.
  std::stop_token stop;
};

// Running totals of one chat model.
struct ChatModelStatus {
  int64_t requests = 0;  // HTTP requests sent, retries included.
  int64_t failures = 0;  // Of those, the ones without a usable answer.
  CircuitState circuit = CircuitState::kClosed;
};

// A model that continues a chat. Implementations are thread-safe; `Complete`
// blocks until there is an answer, the tries are spent or `options.stop`.
class ChatModel {
 public:
  virtual ~ChatModel() = default;
  // Text of the answer, never empty. Errors:
  // DEADLINE_EXCEEDED    no answer in time, every attempt used;
  // UNAVAILABLE          connection refused or broken, 5xx, circuit open;
  // RESOURCE_EXHAUSTED   429 until the attempts were used;
  // FAILED_PRECONDITION  another 4xx, or the model declined to answer;
  // DATA_LOSS            the body was not a chat completion, was over the
  //                      limit, empty or cut off;
  // CANCELLED            `options.stop`;
  // whatever `options.accept` returned for the last answer.
  virtual absl::StatusOr<std::string> Complete(
      const std::vector<ChatMessage>& messages, const ChatOptions& options) = 0;
  virtual ChatModelStatus status() const = 0;
};

// One HTTP request as the metrics see it.
struct ChatAttempt {
  // "ok", "timeout", "http_4xx", "http_429", "http_5xx", "connection",
  // "parse_error", "refused", "circuit_open" or "cancelled".
  const char* outcome = "";
  absl::Duration elapsed;
  int64_t prompt_tokens = 0;      // As the server counted; 0 = not told.
  int64_t completion_tokens = 0;  // Likewise.
};

struct CurlChatModelOptions {
  // "http://host:port", ".../v1" or ".../v1/chat/completions"; http or https.
  std::string base_url;
  std::string model = "default";
  http::Secret api_key;                              // Empty = none sent.
  absl::Duration timeout = absl::Seconds(60);        // Of one attempt.
  int attempts = 4;                                  // >= 1.
  absl::Duration backoff = absl::Milliseconds(500);  // First pause; doubles.
  // A server that asks for a longer pause (Retry-After) is not retried.
  absl::Duration max_pause = absl::Seconds(60);
  int64_t max_body_bytes = 1 << 20;
  CircuitBreakerOptions breaker;
  uint64_t jitter_seed = 1;
  // Called after every attempt, from the calling thread.
  std::function<void(const ChatAttempt&)> on_attempt;
  // Waits between attempts; returns false when stopped. Tests replace it.
  std::function<bool(absl::Duration, std::stop_token)> sleep;
};

// Client of an OpenAI-compatible /v1/chat/completions (libcurl), with retries
// (full jitter; Retry-After honoured), a deadline for each attempt, a circuit
// breaker and a body limit. Redirects are not followed. Thread-safe; as many
// requests are in flight as threads call.
class CurlChatModel final : public ChatModel {
 public:
  // INVALID_ARGUMENT: base_url is not an http(s) URL, or a number is out of
  // range. Sends nothing.
  static absl::StatusOr<std::unique_ptr<CurlChatModel>> Create(
      CurlChatModelOptions options, Clock& clock = Clock::Real());
  ~CurlChatModel() override;

  absl::StatusOr<std::string> Complete(const std::vector<ChatMessage>& messages,
                                       const ChatOptions& options) override;
  ChatModelStatus status() const override;

 private:
  class State;
  explicit CurlChatModel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mpo::judge
