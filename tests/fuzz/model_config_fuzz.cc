// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mpo/model/lora_config.h"
#include "mpo/model/model_config.h"

namespace {

mpo::model::ModelConfig SomeModel() {
  mpo::model::ModelConfig c;
  c.layers = 4;
  return c;
}

}  // namespace

// One text as config.json, as generation_config.json and as
// adapter_config.json. What is accepted must print to what parses to the same.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = mpo::model::ParseModelConfig(text, "", "fuzz");
  if (config.ok()) {
    const auto again =
        mpo::model::ParseModelConfig(ToJson(*config), "", "again");
    if (!again.ok() || *again != *config) std::abort();
    if (config->parameters() <= 0) std::abort();
    (void)mpo::model::ParseModelConfig(ToJson(*config), text, "fuzz");
  }
  const auto lora = mpo::model::ParsePeftJson(text, SomeModel(), "fuzz");
  if (lora.ok()) {
    const auto again = mpo::model::ParsePeftJson(ToPeftJson(*lora, SomeModel()),
                                                 SomeModel(), "again");
    if (!again.ok() || *again != *lora) std::abort();
  }
  return 0;
}
