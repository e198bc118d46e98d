// SPDX-License-Identifier: Apache-2.0
// make_tiny_model DIR: writes a Hugging Face directory of a random two-layer
// model with a byte tokenizer, the same for everybody.
#include <cstdio>
#include <filesystem>

#include "mpo/model/language_model.h"
#include "tests/support/tiny_tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_tiny_model DIR\n");
    return 2;
  }
  mpo::model::ModelConfig config;
  config.vocab_size = mpo::text::kTinyVocabSize;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.context = 512;
  config.tie_embeddings = true;
  config.eos_tokens = {mpo::text::kTinyImEnd};
  std::filesystem::create_directories(argv[1]);
  const auto model = mpo::model::LanguageModel::Random(config, /*seed=*/7);
  absl::Status status = model.status();
  if (status.ok()) status = (*model)->Save(argv[1]);
  if (status.ok()) status = mpo::text::WriteTinyTokenizer(argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
