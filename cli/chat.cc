// SPDX-License-Identifier: Apache-2.0
#include "cli/chat.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/sample_text.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {

Chat::Chat(generation::Engine& engine, const model::LoraAdapter* adapter,
           const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
           ChatOptions options)
    : engine_(engine),
      adapter_(adapter),
      tokenizer_(tokenizer),
      chat_(chat),
      options_(std::move(options)) {
  Forget();
}

void Chat::Forget() {
  messages_.clear();
  if (!options_.system.empty())
    messages_.push_back({.role = "system", .content = options_.system});
}

absl::StatusOr<std::vector<int32_t>> Chat::Prompt(
    const std::vector<ChatMessage>& messages) const {
  auto tokens = [&]() -> absl::StatusOr<std::vector<int32_t>> {
    MPO_ASSIGN_OR_RETURN(
        const std::string rendered,
        chat_.Render(messages, {.default_system_prompt =
                                    options_.default_system_prompt}));
    return tokenizer_.Encode(rendered);
  }();
  if (tokens.ok()) return tokens;
  return absl::Status(tokens.status().code(),
                      absl::StrCat("turn ", answers_ + 1, ": ",
                                   std::string(tokens.status().message())));
}

absl::Status Chat::Answer(const std::string& line, std::ostream& out,
                          const std::function<bool()>& interrupted) {
  std::vector<ChatMessage> messages = messages_;
  messages.push_back({.role = "user", .content = line});
  generation::GenerationRequest request{
      .id = absl::StrCat("turn ", answers_ + 1),
      .prompt_tokens = {},
      .seed = options_.seed + answers_};
  MPO_ASSIGN_OR_RETURN(request.prompt_tokens, Prompt(messages));
  SampleText text(tokenizer_, options_.stops);
  size_t written = 0;
  auto write = [&] {
    out << text.text().substr(written) << std::flush;
    written = text.text().size();
  };
  request.on_token = [&](const generation::GenerationResult& result) {
    const bool go_on = text.OnToken(result);
    write();
    const bool cut = interrupted();
    return go_on && !cut;
  };
  interrupted();  // What came before is no wish to cut this answer.
  MPO_ASSIGN_OR_RETURN(
      const auto results,
      engine_.Generate({std::move(request)}, options_.sampling, adapter_));
  text.Finish();
  write();
  if (results[0].status.ok() || written > 0) out << std::endl;
  MPO_RETURN_IF_ERROR(results[0].status);
  messages.push_back({.role = "assistant", .content = text.text()});
  messages_ = std::move(messages);
  ++answers_;
  return absl::OkStatus();
}

absl::Status Chat::Run(std::istream& in, std::ostream& out,
                       const std::function<bool()>& interrupted) {
  std::string line;
  auto next = [&] {
    if (options_.interactive) out << "> " << std::flush;
    return static_cast<bool>(std::getline(in, line));
  };
  if (options_.interactive) {
    out << "/new forgets the conversation; /quit or Ctrl-D ends; Ctrl-C cuts "
           "an answer, or ends\n";
  }
  while (next()) {
    const absl::string_view word = absl::StripAsciiWhitespace(line);
    if (word == "/quit") return absl::OkStatus();
    if (word == "/new") Forget();
    if (word.empty() || word == "/new") continue;
    const absl::Status answered = Answer(line, out, interrupted);
    if (answered.ok()) continue;
    if (!options_.interactive) return answered;
    out << "mpo: " << answered.message() << std::endl;
  }
  if (options_.interactive) out << std::endl;
  return absl::OkStatus();
}

}  // namespace mpo::cli
