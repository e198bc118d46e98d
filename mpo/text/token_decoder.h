// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace mpo::text {

// The `decoder` of a tokenizer.json: how token texts become text again.
struct TokenDecoder {
  // ByteLevel: every character of a token is a byte. Else a Sequence of Replace
  // (perhaps), ByteFallback, Fuse and Strip (perhaps): tokens "<0x00>" to
  // "<0xFF>" are bytes, and a run of them that is not UTF-8 becomes one U+FFFD
  // a byte.
  bool byte_level = true;
  std::string replaced;     // Replace: this...
  std::string replacement;  // ...becomes this, in every token. Empty = nothing.
  bool strip_space = false;  // Strip: without a space at the very start.

  // UNIMPLEMENTED: another decoder; the message names it.
  static absl::StatusOr<TokenDecoder> Parse(const nlohmann::json& spec);
};

}  // namespace mpo::text
