// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "absl/status/status.h"

namespace mpo::model {

// Copies what a Hugging Face directory holds beside configuration and weights:
// tokenizer, chat template, generation_config.json. Files that `from` lacks are
// left out; those of `to` are replaced. UNAVAILABLE names the file.
absl::Status CopyCompanionFiles(const std::filesystem::path& from,
                                const std::filesystem::path& to);

}  // namespace mpo::model
