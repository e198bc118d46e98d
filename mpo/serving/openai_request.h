// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"

namespace mpo::serving {

// What a request of OpenAI's completions and chat completions APIs asks for,
// as far as a text model serves it. Keys that would change the answer and that
// are not served are refused by name; keys without effect on it (user,
// metadata, store, service_tier, ...) are accepted.
struct CompletionRequest {
  std::string model;
  // Chat.
  std::vector<ChatMessage> messages;
  // Completions: each prompt a text or tokens.
  std::vector<std::variant<std::string, std::vector<int32_t>>> prompts;

  SamplingOptions sampling;     // Defaults of the API: temperature 1, 16 tokens
                                // for completions; chat: max_tokens_set tells.
  bool max_tokens_set = false;  // False: what the context leaves (chat).
  std::vector<std::string> stop;
  int n = 1;                     // Samples a prompt, 1 to 128.
  std::optional<uint64_t> seed;  // Sample i of a prompt draws with seed + i.
  bool logprobs = false;
  int top_logprobs = 0;  // 0 to 20.
  bool echo = false;     // Completions: the prompt comes first; max_tokens may
                         // be 0 then.
  bool stream = false;
  bool include_usage = false;  // Of a stream: a last chunk with the usage.
};

// INVALID_ARGUMENT: not JSON, nested deeper than text::kMaxJsonDepth, or the
// first key that is missing, of the wrong type, out of range or not served; the
// message begins with the key.
absl::StatusOr<CompletionRequest> ParseChatRequest(std::string_view body);
absl::StatusOr<CompletionRequest> ParseCompletionRequest(std::string_view body);

}  // namespace mpo::serving
