// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/prompt_lines.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::ordered_json;

// Answers each line of stdin with one line on stdout.
absl::Status Tokenize(const std::string& model, const std::string& family,
                      bool decode, bool default_system) {
  MPO_ASSIGN_OR_RETURN(const text::Tokenizer tokenizer,
                       text::Tokenizer::Load(model));
  std::optional<text::ChatTemplate> chat;
  std::string line;
  for (int number = 1; std::getline(std::cin, line); ++number) {
    if (line.empty()) continue;
    const std::string where = absl::StrCat("stdin:", number);
    MPO_ASSIGN_OR_RETURN(const PromptLine input,
                         ParseTokenizeLine(line, where));
    Json answer;
    if (input.tokens.has_value()) {
      MPO_ASSIGN_OR_RETURN(
          answer["text"],
          tokenizer.Decode(*input.tokens, /*skip_special=*/false));
    } else if (decode) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": --decode expects {\"ids\": [...]}"));
    } else if (input.text.has_value()) {
      MPO_ASSIGN_OR_RETURN(
          answer["ids"],
          tokenizer.Encode(*input.text, /*add_special_tokens=*/true));
    } else {
      if (!chat.has_value()) {
        MPO_ASSIGN_OR_RETURN(chat, text::ChatTemplate::Load(model, family));
      }
      MPO_ASSIGN_OR_RETURN(
          const std::string rendered,
          chat->Render(input.messages,
                       {.default_system_prompt = default_system}));
      MPO_ASSIGN_OR_RETURN(answer["ids"], tokenizer.Encode(rendered));
    }
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace)
              << "\n";
  }
  return absl::OkStatus();
}

}  // namespace

void AddTokenizeCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "tokenize", "Turn text into token ids, or back: JSON lines from stdin");
  auto model = std::make_shared<std::string>();
  auto family = std::make_shared<std::string>();
  auto decode = std::make_shared<bool>(false);
  command->add_option("--model", *model, "Hugging Face directory")->required();
  command
      ->add_option("--chat-family", *family,
                   "How to render messages, where the model's chat template "
                   "is not known")
      ->check(CLI::IsMember(text::ChatTemplate::FamilyNames()));
  command->add_flag("--decode", *decode, "Expect lines with ids");
  auto no_system = std::make_shared<bool>(false);
  command->add_flag("--no-default-system", *no_system,
                    "Render messages without the model's own system turn, as "
                    "training does");
  command->callback([model, family, decode, no_system, &action] {
    action = [model, family, decode, no_system] {
      return Report(Tokenize(*model, *family, *decode, !*no_system));
    };
  });
}

}  // namespace mpo::cli
