// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/generation/engine.h"
#include "mpo/text/tokenizer.h"

namespace mpo::cli {

// One line of `mpo generate --output`, with its line end: id, tokens, text,
// finish_reason; log-probs under the sampling distribution and the model's own
// if asked for; `error` exactly where the sample failed or cannot be decoded.
// `text` where it is not simply that of the tokens (stop strings).
std::string GeneratedLine(const generation::GenerationResult& result,
                          const text::Tokenizer& tokenizer,
                          const std::optional<std::string>& text,
                          bool logprobs);

// OK when every sample is; else the code of the first failure, how many
// failed, where their errors stand (`output`) and the first one's.
absl::Status FailureOf(const std::vector<generation::GenerationResult>& results,
                       const std::string& output);

}  // namespace mpo::cli
