// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "mpo/text/added_tokens.h"
#include "mpo/text/bpe.h"
#include "mpo/text/normalizer.h"
#include "mpo/text/pre_tokenizer.h"
#include "mpo/text/token_decoder.h"

namespace mpo::text {

// BPE as a Hugging Face tokenizer.json describes it, byte-level or over
// characters with byte_fallback: added tokens, normaliser, pre-tokenizer (none
// with byte_fallback), merges, template post-processor, decoder. Files are
// untrusted. Immutable, so thread-safe; movable.
class Tokenizer {
 public:
  static constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;
  static constexpr size_t kMaxTextBytes = size_t{16} << 20;

  // Reads tokenizer.json and, for the end tokens, generation_config.json or
  // config.json of a model directory. NOT_FOUND: a file is missing.
  // RESOURCE_EXHAUSTED: a file, the vocabulary or the merges are too large.
  // INVALID_ARGUMENT, UNIMPLEMENTED: see Parse; the message names the file.
  static absl::StatusOr<Tokenizer> Load(const std::filesystem::path& dir);

  // From the text of a tokenizer.json. INVALID_ARGUMENT: not valid, or ids
  // that are not 0 to n-1, each once. UNIMPLEMENTED: a part this class does
  // not know; the message names it. `truncation` and `padding` are ignored:
  // lengths are the caller's business.
  static absl::StatusOr<Tokenizer> Parse(std::string_view tokenizer_json,
                                         std::vector<int32_t> eos_ids);

  // Ids of UTF-8 text; added tokens written in it become their ids.
  // `add_special_tokens` adds what the template post-processor adds (for
  // example the begin token of Llama 3); chat templates write it themselves.
  // INVALID_ARGUMENT: not UTF-8. RESOURCE_EXHAUSTED: over kMaxTextBytes.
  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, bool add_special_tokens = false) const;

  // Text of ids; bytes that are not UTF-8 become U+FFFD. Ids from vocab_size
  // on, which a padded model can draw, are no text, as in transformers.
  // INVALID_ARGUMENT: a negative id.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids,
                                     bool skip_special = true) const;

  // Raw bytes of one token. INVALID_ARGUMENT: an id outside [0, vocab_size).
  absl::StatusOr<std::string> BytesOf(int32_t id) const;

  // Id of an added token or of a token as it stands in the vocabulary.
  std::optional<int32_t> IdOf(const std::string& token) const;

  bool IsSpecial(int32_t id) const;
  // A byte token of byte_fallback.
  bool IsByte(int32_t id) const;
  const TokenDecoder& decoder() const { return decoder_; }
  // Number of ids, added tokens included. A model's own vocab_size may be
  // larger (padding), never smaller.
  int vocab_size() const { return static_cast<int>(bytes_.size()); }
  // Tokens that end a response; at least one.
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }

 private:
  absl::Status ReadTokens(const nlohmann::json& root);
  absl::Status ReadDecoder(const nlohmann::json& root);
  absl::Status ReadPostProcessor(const nlohmann::json& spec);
  absl::Status ReadTemplate(const nlohmann::json& spec);

  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  Normalizer normalizer_;
  TokenDecoder decoder_;
  TokenFinder raw_tokens_;         // Found in the text as given.
  TokenFinder normalized_tokens_;  // Found after normalisation.
  std::unordered_map<std::string, int32_t> added_ids_;
  std::vector<std::string> bytes_;  // By id.
  std::vector<bool> special_;       // By id.
  std::vector<bool> is_byte_;       // By id: a byte of byte_fallback.
  std::vector<int32_t> prefix_;     // Added by the post-processor.
  std::vector<int32_t> suffix_;
  std::vector<int32_t> eos_ids_;
};

// Turns ids into text as they come; what it has emitted is always whole code
// points. With byte_fallback a run of byte tokens is held until it ends, as
// only then is it known whether it is text. Not thread-safe; the tokenizer must
// outlive it.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer,
                              bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // Text that became certain with this id; may be empty. Ids as in
  // Tokenizer::Decode.
  absl::StatusOr<std::string> Push(int32_t id);
  // What is left: U+FFFD for a code point that was never finished.
  std::string Finish();

 private:
  std::string PushFallback(int32_t id, const std::string& bytes);
  std::string EndOfRun();

  const Tokenizer& tokenizer_;
  const bool skip_special_;
  bool at_start_ = true;  // With byte_fallback: nothing was emitted yet.
  std::string pending_;
};

}  // namespace mpo::text
