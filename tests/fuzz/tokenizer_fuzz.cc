// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mpo/text/tokenizer.h"
#include "mpo/text/utf8.h"

// A tokenizer.json; after a byte 0, text for it. Whatever was accepted must
// encode or refuse, and decode what it encoded to valid UTF-8.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = std::min(input.find('\0'), size);
  const auto tokenizer = mpo::text::Tokenizer::Parse(input.substr(0, cut), {0});
  if (!tokenizer.ok()) return 0;
  const std::string_view given =
      cut < size ? input.substr(cut + 1) : std::string_view();
  for (const std::string_view text :
       {given,
        std::string_view("It's 12 o'clock,  \u00e9e\u0301 <|im_end|>\n")}) {
    const auto ids = tokenizer->Encode(text, /*add_special_tokens=*/true);
    if (!ids.ok()) continue;
    const auto decoded = tokenizer->Decode(*ids, /*skip_special=*/false);
    if (!decoded.ok()) std::abort();
    if (mpo::text::FirstInvalidUtf8(*decoded).has_value()) std::abort();
  }
  return 0;
}
