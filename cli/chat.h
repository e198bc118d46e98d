// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/generation/engine.h"
#include "mpo/model/lora.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"
#include "mpo/types/prompt.h"

namespace mpo::cli {

struct ChatOptions {
  SamplingOptions sampling;
  uint64_t seed = 0;  // Answer i draws with seed + i.
  std::vector<std::string> stops;
  std::string system;  // The system turn; empty = none given.
  bool default_system_prompt = true;
  // Somebody types: a prompt is shown, and a turn that cannot be answered is
  // told and taken back. Else the first such turn ends the conversation.
  bool interactive = false;
};

// A conversation with a model. Not thread-safe; what it is made with must
// outlive it.
class Chat {
 public:
  Chat(generation::Engine& engine, const model::LoraAdapter* adapter,
       const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
       ChatOptions options);

  // Takes each line of `in` that is not blank as a user's turn and writes the
  // answer to `out` as it is generated, until `in` ends. "/new" forgets the
  // turns, "/quit" ends. `interrupted` tells whether somebody asked to cut the
  // answer since it was last called; it is called after every token. Errors as
  // ChatTemplate::Render, Tokenizer::Encode, Engine::Generate and of a failed
  // sample (INVALID_ARGUMENT: the conversation no longer fits the context);
  // those of a turn name it.
  absl::Status Run(std::istream& in, std::ostream& out,
                   const std::function<bool()>& interrupted);

 private:
  absl::Status Answer(const std::string& line, std::ostream& out,
                      const std::function<bool()>& interrupted);
  // Of the conversation, with the model's turn opened.
  absl::StatusOr<std::vector<int32_t>> Prompt(
      const std::vector<ChatMessage>& messages) const;
  void Forget();

  generation::Engine& engine_;
  const model::LoraAdapter* adapter_;
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate& chat_;
  ChatOptions options_;
  std::vector<ChatMessage> messages_;
  uint64_t answers_ = 0;
};

}  // namespace mpo::cli
