// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::text {

// Byte-pair merges: the `model` of a tokenizer.json. Byte-level: over bytes,
// each a character of the alphabet. With byte_fallback: over characters, those
// that the vocabulary lacks as their bytes "<0x00>" to "<0xFF>". Thread-safe.
class Bpe {
 public:
  // Limits of what is read from an untrusted file.
  static constexpr size_t kMaxVocabulary = 1'000'000;
  static constexpr size_t kMaxMerges = 4'000'000;

  // INVALID_ARGUMENT: a field of the wrong type, an id out of range, a merge
  // of unknown tokens, a byte token missing for byte_fallback; the message
  // names it. UNIMPLEMENTED: another model (type, dropout, affixes).
  // RESOURCE_EXHAUSTED: over a limit above.
  static absl::StatusOr<Bpe> Parse(const nlohmann::json& spec);

  // Appends the ids of one word of raw bytes (valid UTF-8 with byte_fallback).
  // A byte that the vocabulary lacks is left out, as the reference
  // implementation does without an unknown token.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;

  bool byte_fallback() const { return byte_fallback_; }
  // The byte that an id of byte_fallback stands for.
  std::optional<uint8_t> ByteOf(int32_t id) const;

  // Token texts as they stand in the file, by text.
  const std::unordered_map<std::string, int32_t>& vocabulary() const {
    return vocabulary_;
  }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };

  absl::Status ReadByteIds(const nlohmann::json& spec);
  // Ids of the characters or bytes that merging begins with.
  std::vector<int32_t> Symbols(std::string_view word) const;
  absl::Status ReadVocabulary(const nlohmann::json& vocab);
  absl::Status ReadMerges(const nlohmann::json& merges);

  std::unordered_map<std::string, int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // Key: left id, right id.
  std::array<int32_t, 256> byte_ids_{};         // -1: not in the vocabulary.
  bool ignore_merges_ = false;
  bool byte_fallback_ = false;
};

}  // namespace mpo::text
