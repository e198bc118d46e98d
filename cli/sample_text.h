// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/generation/engine.h"
#include "mpo/text/stop_strings.h"
#include "mpo/text/tokenizer.h"

namespace mpo::cli {

// The text of a sample as its tokens come, up to the first stop string.
// `tokenizer` must outlive it. Not thread-safe.
class SampleText {
 public:
  SampleText(const text::Tokenizer& tokenizer, std::vector<std::string> stops)
      : decoder_(tokenizer), stops_(std::move(stops)) {}

  // Takes the newest token; false once a stop string is found or the token
  // cannot be decoded. What GenerationRequest::on_token wants.
  bool OnToken(const generation::GenerationResult& result);
  // The text so far, less what may still become a stop string or a character.
  const std::string& text() const { return text_; }
  // All of it; no tokens may follow.
  const std::string& Finish();

 private:
  text::IncrementalDecoder decoder_;
  text::StopStrings stops_;
  std::string text_;
};

}  // namespace mpo::cli
