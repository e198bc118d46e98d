// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::text {

// Byte-pair merges over bytes: the `model` of a tokenizer.json. Thread-safe.
class Bpe {
 public:
  // Limits of what is read from an untrusted file.
  static constexpr size_t kMaxVocabulary = 1'000'000;
  static constexpr size_t kMaxMerges = 4'000'000;

  // INVALID_ARGUMENT: a field of the wrong type, an id out of range, a merge
  // of unknown tokens; the message names it. UNIMPLEMENTED: a model that is
  // not byte-level BPE (type, dropout, byte_fallback, affixes).
  // RESOURCE_EXHAUSTED: over a limit above.
  static absl::StatusOr<Bpe> Parse(const nlohmann::json& spec);

  // Appends the ids of one word of raw bytes. A byte that the vocabulary lacks
  // is left out, as the reference implementation does without an unknown token.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;

  // Token texts as they stand in the file, by text.
  const std::unordered_map<std::string, int32_t>& vocabulary() const {
    return vocabulary_;
  }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };

  absl::Status ReadVocabulary(const nlohmann::json& vocab);
  absl::Status ReadMerges(const nlohmann::json& merges);

  std::unordered_map<std::string, int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // Key: left id, right id.
  std::array<int32_t, 256> byte_ids_{};         // -1: not in the vocabulary.
  bool ignore_merges_ = false;
};

}  // namespace mpo::text
