// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"

namespace mpo::text {

// A byte-level tokenizer for tests: ids 0 to 255 are the bytes, no merges, then
// <|endoftext|>, <|im_start|>, <|im_end|>. ChatML without a default system
// turn; a response ends with <|im_end|>.
inline constexpr int32_t kTinyEndOfText = 256;
inline constexpr int32_t kTinyImStart = 257;
inline constexpr int32_t kTinyImEnd = 258;
inline constexpr int kTinyVocabSize = 259;

// Writes tokenizer.json, tokenizer_config.json and generation_config.json into
// an existing directory. Same errors as WriteFileAtomically.
absl::Status WriteTinyTokenizer(const std::filesystem::path& dir);

}  // namespace mpo::text
