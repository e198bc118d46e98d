// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"
#include "mpo/types/prompt.h"

namespace mpo::text {

// Tokens of a prompt. Chat messages are rendered exactly as the data gives
// them: the model's own default system turn is not added, so that what the
// policy sees is what the data says. A raw text is encoded as it stands, with
// the tokens the tokenizer itself puts around a text. INVALID_ARGUMENT names
// the prompt: neither messages nor text, both, or an unknown role; the status
// of `chat` when it is not OK and the prompt has messages.
absl::StatusOr<std::vector<int32_t>> RenderPrompt(
    const Tokenizer& tokenizer, const absl::StatusOr<ChatTemplate>& chat,
    const Prompt& prompt);

}  // namespace mpo::text
