// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace mpo::text {

// A token that is cut out of the text before anything else looks at it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;     // Left out when decoding skips special tokens.
  bool normalized = false;  // Looked for after normalisation.
};

// Reads the `added_tokens` of a tokenizer.json. INVALID_ARGUMENT: a wrong type
// or a repeated content or id. UNIMPLEMENTED: lstrip, rstrip or single_word.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(
    const nlohmann::json& list);

// Finds a set of tokens in text, leftmost first, the longest of those that
// start at the same place. Thread-safe.
class TokenFinder {
 public:
  void Add(const std::string& content, int32_t id);

  // Calls `token` for every token found and `text` for what lies between, in
  // order; never with an empty string.
  void Walk(std::string_view whole,
            const std::function<void(std::string_view)>& text,
            const std::function<void(int32_t)>& token) const;

 private:
  std::unordered_map<std::string, int32_t> ids_;
  // Lengths of tokens that start with the byte, longest first.
  std::array<std::vector<size_t>, 256> lengths_;
};

}  // namespace mpo::text
