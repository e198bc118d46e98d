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
  bool special = false;      // Left out when decoding skips special tokens.
  bool normalized = false;   // Looked for after normalisation.
  bool lstrip = false;       // Takes the white space before it along.
  bool rstrip = false;       // And that after it.
  bool single_word = false;  // Not found inside or at the edge of a word.
};

// Reads the `added_tokens` of a tokenizer.json. INVALID_ARGUMENT: a wrong type
// or a repeated content or id.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(
    const nlohmann::json& list);

// Finds a set of tokens in text, leftmost first, the longest of those that
// start at the same place; a single_word token that a word touches is left as
// text. Thread-safe.
class TokenFinder {
 public:
  // `content` is what to look for: token.content, perhaps normalised.
  void Add(const std::string& content, const AddedToken& token);

  // Calls `token` for every token found and `text` for what lies between, in
  // order; never with an empty string. White space that a token takes along is
  // in neither. `whole` is valid UTF-8.
  void Walk(std::string_view whole,
            const std::function<void(std::string_view)>& text,
            const std::function<void(int32_t)>& token) const;

 private:
  // The longest token at `at` and its length in `whole`; null for none.
  const AddedToken* Longest(std::string_view whole, size_t at,
                            size_t& length) const;

  std::unordered_map<std::string, AddedToken> tokens_;
  // Lengths of tokens that start with the byte, longest first.
  std::array<std::vector<size_t>, 256> lengths_;
};

}  // namespace mpo::text
