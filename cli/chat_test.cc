// SPDX-License-Identifier: Apache-2.0
#include "cli/chat.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "mpo/model/language_model.h"
#include "tests/support/tiny_tokenizer.h"

namespace mpo::cli {
namespace {

// A tiny random model that speaks in bytes; `context` tokens.
struct Fixture {
  std::optional<text::Tokenizer> tokenizer;
  std::optional<text::ChatTemplate> chat;
  std::unique_ptr<generation::Engine> engine;
  ChatOptions options;

  explicit Fixture(int64_t context = 256) {
    const auto dir = std::filesystem::temp_directory_path() /
                     ("mpo_chat_test_" + std::to_string(getpid()));
    std::filesystem::create_directories(dir);
    REQUIRE(text::WriteTinyTokenizer(dir).ok());
    auto loaded = text::Tokenizer::Load(dir);
    REQUIRE(loaded.ok());
    tokenizer.emplace(*std::move(loaded));
    auto rendering = text::ChatTemplate::Load(dir);
    REQUIRE(rendering.ok());
    chat.emplace(*std::move(rendering));
    std::filesystem::remove_all(dir);
    model::ModelConfig shape;
    shape.vocab_size = text::kTinyVocabSize;
    shape.hidden_size = 16;
    shape.intermediate_size = 32;
    shape.layers = 2;
    shape.heads = shape.kv_heads = 2;
    shape.head_dim = 8;
    shape.context = context;
    shape.initializer_range = 0.3;
    auto model = model::LanguageModel::Random(shape, 5);
    REQUIRE(model.ok());
    auto made = generation::Engine::Create(
        *model, {.stop_tokens = std::vector<int32_t>{}});
    REQUIRE(made.ok());
    engine = *std::move(made);
    options.sampling.max_new_tokens = 8;
  }

  absl::Status Run(const std::string& input, std::string& output,
                   bool interrupt = false) {
    Chat session(*engine, nullptr, *tokenizer, *chat, options);
    std::istringstream in(input);
    std::ostringstream out;
    const absl::Status status = session.Run(in, out, [&] { return interrupt; });
    output = out.str();
    return status;
  }

  // What the model answers to these messages.
  std::string Expected(const std::vector<ChatMessage>& messages,
                       uint64_t seed) const {
    const auto rendered =
        chat->Render(messages, {.default_system_prompt = true});
    REQUIRE(rendered.ok());
    const auto prompt = tokenizer->Encode(*rendered);
    REQUIRE(prompt.ok());
    const auto results =
        engine->Generate({{.id = "x", .prompt_tokens = *prompt, .seed = seed}},
                         options.sampling);
    REQUIRE(results.ok());
    const auto text = tokenizer->Decode((*results)[0].tokens);
    REQUIRE(text.ok());
    return *text;
  }
};

TEST_CASE("each answer is that to the whole conversation before it", "[cli]") {
  Fixture f;
  f.options.system = "Be brief.";
  f.options.seed = 3;
  std::string output;
  REQUIRE(f.Run("Hello\n\nAnd then?\n", output).ok());
  std::vector<ChatMessage> messages = {{"system", "Be brief."},
                                       {"user", "Hello"}};
  const std::string first = f.Expected(messages, 3);
  messages.push_back({"assistant", first});
  messages.push_back({"user", "And then?"});
  CHECK(output == first + "\n" + f.Expected(messages, 4) + "\n");
}

TEST_CASE("/new forgets the turns and /quit ends", "[cli]") {
  Fixture f;
  std::string output;
  REQUIRE(f.Run("Hello\n/new\nHello\n /quit \nnever answered\n", output).ok());
  const std::vector<ChatMessage> messages = {{"user", "Hello"}};
  CHECK(output ==
        f.Expected(messages, 0) + "\n" + f.Expected(messages, 1) + "\n");
}

TEST_CASE("an interrupted answer is cut after its token and is kept", "[cli]") {
  Fixture f;
  std::string output;
  f.options.sampling.temperature = 0;
  REQUIRE(f.Run("Hello\n", output, /*interrupt=*/true).ok());
  f.options.sampling.max_new_tokens = 1;
  CHECK(output == f.Expected({{"user", "Hello"}}, 0) + "\n");
}

TEST_CASE("an interruption between answers does not cut the next", "[cli]") {
  Fixture f;
  Chat session(*f.engine, nullptr, *f.tokenizer, *f.chat, f.options);
  std::istringstream in("Hello\n");
  std::ostringstream out;
  bool pending = true;  // From before the answer.
  REQUIRE(
      session.Run(in, out, [&] { return std::exchange(pending, false); }).ok());
  CHECK(out.str() == f.Expected({{"user", "Hello"}}, 0) + "\n");
}

TEST_CASE("a conversation longer than the context is told, and can go on anew",
          "[cli]") {
  Fixture f(64);
  const std::string lines = "Hi\n" + std::string(80, 'x') + "\n/new\nHi\n";
  std::string output;
  const absl::Status piped = f.Run(lines, output);
  CHECK(absl::IsInvalidArgument(piped));
  CHECK(absl::StrContains(piped.message(), "turn 2"));

  f.options.interactive = true;
  REQUIRE(f.Run(lines, output).ok());
  CHECK(absl::StrContains(output, "mpo: "));
  CHECK(absl::StrContains(output, f.Expected({{"user", "Hi"}}, 1) + "\n> "));
}

TEST_CASE("a stop string ends an answer and is not shown", "[cli]") {
  Fixture f;
  std::string whole, output;
  f.options.sampling.temperature = 0;
  f.options.sampling.max_new_tokens = 16;
  REQUIRE(f.Run("Hello\n", whole).ok());
  const std::string expected = f.Expected({{"user", "Hello"}}, 0);
  REQUIRE(expected.size() > 4);
  f.options.stops = {expected.substr(3)};
  REQUIRE(f.Run("Hello\n", output).ok());
  CHECK(output == expected.substr(0, expected.find(f.options.stops[0])) + "\n");
}

}  // namespace
}  // namespace mpo::cli
