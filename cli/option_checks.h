// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"

namespace mpo::cli {

// A check of an option that takes whole numbers from `least`; CLI11's own print
// the bounds of a double.
inline CLI::Validator WholeNumber(int64_t least) {
  const std::string what = absl::StrCat("a whole number of at least ", least);
  return {[least, what](std::string& text) -> std::string {
            uint64_t value = 0;
            const char* const end = text.data() + text.size();
            const auto read = std::from_chars(text.data(), end, value);
            if (read.ec == std::errc() && read.ptr == end &&
                value >= static_cast<uint64_t>(least)) {
              return "";
            }
            return absl::StrCat("expected ", what, ", found '", text, "'");
          },
          ""};
}

}  // namespace mpo::cli
