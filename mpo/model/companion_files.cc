// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/companion_files.h"

#include <system_error>

#include "absl/strings/str_cat.h"

namespace mpo::model {

absl::Status CopyCompanionFiles(const std::filesystem::path& from,
                                const std::filesystem::path& to) {
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "special_tokens_map.json", "generation_config.json"}) {
    std::error_code error;
    if (!std::filesystem::exists(from / name, error)) continue;
    std::filesystem::copy_file(
        from / name, to / name,
        std::filesystem::copy_options::overwrite_existing, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("copy ", (from / name).string(), " to ",
                       (to / name).string(), ": ", error.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace mpo::model
