// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "mpo/generation/engine.h"
#include "mpo/model/language_model.h"
#include "mpo/serving/generation_worker.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"
#include "tests/support/tiny_tokenizer.h"

namespace mpo::serving {

// The next news of a sample; a test fails that waits a minute for them.
inline SampleNews Next(SampleStream& stream) {
  auto news = stream.Next(absl::Minutes(1));
  REQUIRE(news.has_value());
  return *std::move(news);
}

// A tiny random model with a byte tokenizer behind a worker.
struct ServingFixture {
  std::optional<text::Tokenizer> tokenizer;
  absl::StatusOr<text::ChatTemplate> chat = absl::UnknownError("not loaded");
  std::unique_ptr<GenerationWorker> worker;

  // `cache_pages` of 16 tokens, 0 = as many as are needed; `padding` ids of the
  // model that the tokenizer does not have.
  explicit ServingFixture(int max_rows = 4, int max_waiting = 8,
                          int cache_pages = 0, int padding = 0) {
    const auto dir = std::filesystem::temp_directory_path() /
                     absl::StrCat("mpo_serving_", getpid());
    std::filesystem::create_directories(dir);
    REQUIRE(text::WriteTinyTokenizer(dir).ok());
    auto loaded = text::Tokenizer::Load(dir);
    REQUIRE(loaded.ok());
    tokenizer.emplace(*std::move(loaded));
    chat = text::ChatTemplate::Load(dir);
    REQUIRE(chat.ok());
    std::filesystem::remove_all(dir);
    model::ModelConfig shape;
    shape.vocab_size = text::kTinyVocabSize + padding;
    shape.hidden_size = 16;
    shape.intermediate_size = 32;
    shape.layers = 2;
    shape.heads = shape.kv_heads = 2;
    shape.head_dim = 8;
    shape.context = 256;
    shape.initializer_range = 0.3;
    auto model = model::LanguageModel::Random(shape, 5);
    REQUIRE(model.ok());
    auto engine = generation::Engine::Create(
        *model, {.max_rows = max_rows,
                 // Floats: 2 layers, 2 heads, keys of 8 and values of 16.
                 .kv_cache_bytes = static_cast<uint64_t>(cache_pages) * 16 * 2 *
                                   2 * (8 + 16) * sizeof(float),
                 .stop_tokens = std::vector<int32_t>{},
                 .interleave_prefill = true});
    REQUIRE(engine.ok());
    worker = std::make_unique<GenerationWorker>(*std::move(engine), *tokenizer,
                                                WorkerOptions{max_waiting});
  }
};

}  // namespace mpo::serving
