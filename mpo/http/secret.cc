// SPDX-License-Identifier: Apache-2.0
#include "mpo/http/secret.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"

namespace mpo::http {

absl::StatusOr<Secret> ReadSecretFile(const std::filesystem::path& path) {
  constexpr uint64_t kMaxBytes = 64 << 10;
  absl::StatusOr<std::string> text = ReadFile(path, kMaxBytes);
  if (absl::IsResourceExhausted(text.status())) {
    return absl::InvalidArgumentError(absl::StrCat(
        path.string(), ": expected a key of at most ", kMaxBytes, " bytes"));
  }
  MPO_RETURN_IF_ERROR(text.status());
  const size_t begin = text->find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), ": expected a key, the file is empty"));
  }
  const size_t end = text->find_last_not_of(" \t\r\n");
  std::string key = text->substr(begin, end - begin + 1);
  if (std::any_of(key.begin(), key.end(), [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
      })) {
    return absl::InvalidArgumentError(absl::StrCat(
        path.string(), ": expected one line, got control characters"));
  }
  return Secret(std::move(key));
}

}  // namespace mpo::http
