// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mpo/text/chat_template.h"

// One text as tokenizer_config.json, as a template, and as a message.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const auto& chat :
       {mpo::text::ChatTemplate::Parse(text),
        mpo::text::ChatTemplate::Parse("{}", text),
        mpo::text::ChatTemplate::Parse("{}", text, "qwen3"),
        mpo::text::ChatTemplate::Parse("{}", "", "llama3")}) {
    if (!chat.ok()) continue;
    const auto rendered =
        chat->Render({{"system", text}, {"user", text}, {"assistant", text}},
                     {.default_system_prompt = true});
    if (!rendered.ok()) std::abort();
  }
  return 0;
}
