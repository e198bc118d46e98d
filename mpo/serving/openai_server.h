// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/serving/generation_worker.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"

namespace mpo::serving {

struct OpenAiServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;                 // 0 = any free one.
  std::string model_name = {};  // What clients ask for and /v1/models lists.
  std::string api_key = {};     // Empty = none is asked for.
  // Served at a time, a thread each; more wait. Below the samples that run and
  // may wait, a full queue is never told.
  int connections = 512;
  int64_t max_body_bytes = int64_t{8} << 20;
  int retry_after_seconds = 1;  // Told with a 429.
  // Chats without a system turn get the model's own; training renders without.
  bool default_system_prompt = true;
};

// The HTTP side of `mpo serve`: /v1/models, /v1/completions,
// /v1/chat/completions (also streamed as server-sent events) and /health, in
// the shapes of OpenAI's API. Errors are JSON with message, type, param and
// code: 400 for a request that is not served as asked, 401 for a wrong key, 404
// for another model, 413 for a large body, 429 for a full queue, 500 for a
// sample that failed, 503 while shutting down.
class OpenAiServer {
 public:
  // Listens at once. All references must outlive the server; `chat` that is
  // not OK makes chat completions answer 400 with its message. UNAVAILABLE
  // names the address that could not be had.
  static absl::StatusOr<std::unique_ptr<OpenAiServer>> Start(
      const OpenAiServerOptions& options, GenerationWorker& worker,
      const text::Tokenizer& tokenizer,
      const absl::StatusOr<text::ChatTemplate>& chat, Clock& clock);
  ~OpenAiServer();
  OpenAiServer(const OpenAiServer&) = delete;
  OpenAiServer& operator=(const OpenAiServer&) = delete;

  int port() const;

  // Answers new requests with 503 and waits until those in hand are answered,
  // at most `patience`; then cancels the rest and closes. False when some were
  // cut off.
  bool Stop(absl::Duration patience);
  // Ends a Stop's waiting in another thread: what is in hand is cancelled now.
  void Cut();

 private:
  class State;
  explicit OpenAiServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mpo::serving
