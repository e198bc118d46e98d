// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tiny_tokenizer.h"

#include <nlohmann/json.hpp>

#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/utf8.h"

namespace mpo::text {

absl::Status WriteTinyTokenizer(const std::filesystem::path& dir) {
  using nlohmann::json;
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[AlphabetOf(static_cast<uint8_t>(byte))] = byte;
  }
  json added = json::array();
  int32_t id = kTinyEndOfText;
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", id++},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const json tokenizer = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
  const json config = {
      {"tokenizer_class", "PreTrainedTokenizerFast"},
      {"eos_token", "<|im_end|>"},
      {"chat_template",
       "{% for message in messages %}{{'<|im_start|>' + message['role'] + "
       "'\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
       "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
       "{% endif %}"}};
  const json generation = {{"eos_token_id", kTinyImEnd},
                           {"pad_token_id", kTinyEndOfText}};
  MPO_RETURN_IF_ERROR(
      WriteFileAtomically(dir / "tokenizer.json", tokenizer.dump()));
  MPO_RETURN_IF_ERROR(
      WriteFileAtomically(dir / "tokenizer_config.json", config.dump(2)));
  return WriteFileAtomically(dir / "generation_config.json",
                             generation.dump(2));
}

}  // namespace mpo::text
