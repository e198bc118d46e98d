// SPDX-License-Identifier: Apache-2.0
#include "cli/sample_text.h"

namespace mpo::cli {

bool SampleText::OnToken(const generation::GenerationResult& result) {
  const auto piece = decoder_.Push(result.tokens.back());
  if (piece.ok()) text_ += stops_.Push(*piece);
  return piece.ok() && !stops_.found();
}

const std::string& SampleText::Finish() {
  text_ += stops_.Push(decoder_.Finish());
  text_ += stops_.Finish();
  return text_;
}

}  // namespace mpo::cli
