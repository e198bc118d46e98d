// SPDX-License-Identifier: Apache-2.0
// Run by hand: writes what tools/check_saved_models.py loads with transformers
// and PEFT.
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "mpo/base/file.h"
#include "mpo/model/decoder.h"
#include "nlohmann/json.hpp"

namespace mpo::model {
namespace {

nlohmann::json LogitsOf(const LanguageModel& model, const LoraAdapter* adapter,
                        const std::vector<int32_t>& tokens) {
  at::NoGradGuard no_grad;
  const at::Tensor logits =
      Forward(model, adapter, *PadSequences({tokens}))[0][-1].contiguous();
  return std::vector<float>(logits.const_data_ptr<float>(),
                            logits.const_data_ptr<float>() + logits.numel());
}

TEST_CASE("write models and adapters for transformers and PEFT", "[.save]") {
  const std::vector<int32_t> tokens = {5, 6, 7, 60, 1, 33, 2, 9, 18};
  LoraConfig top{.rank = 3, .alpha = 6, .layers = 1};
  LoraConfig head{.rank = 2,
                  .target_modules = {"q_proj", "down_proj", "lm_head"},
                  .rank_stabilised = true};
  head.layer_indices = {0};
  const LoraConfig head_alone{.rank = 2, .target_modules = {"lm_head"}};
  for (const auto& [name, lora] :
       {std::pair("tiny_llama", head), std::pair("tiny_llama3", top),
        std::pair("tiny_linear", head_alone), std::pair("tiny_qwen2", top),
        std::pair("tiny_qwen3", head), std::pair("tiny_qwen3_bf16", head)}) {
    const auto out = std::filesystem::path(MPO_BINARY_DIR) / "saved" / name;
    auto base = LanguageModel::Load(std::filesystem::path(MPO_SOURCE_DIR) /
                                    "mpo/model/testdata" / name);
    REQUIRE(base.ok());
    auto adapter = LoraAdapter::Create(lora, (*base)->config(), 4);
    REQUIRE(adapter.ok());
    {
      at::NoGradGuard no_grad;
      for (auto& named : (*adapter)->Parameters()) {
        named.tensor.add_(0.2 *
                          at::sin(at::arange(named.tensor.numel(), at::kFloat))
                              .view(named.tensor.sizes()));
      }
    }
    auto merged = Merge(**base, **adapter);
    REQUIRE(merged.ok());
    REQUIRE((*base)->Save(out / "base").ok());
    REQUIRE((*adapter)->Save(out / "adapter").ok());
    REQUIRE((*merged)->Save(out / "merged").ok());
    const nlohmann::json expected = {
        {"tokens", tokens},
        {"base", LogitsOf(**base, nullptr, tokens)},
        {"adapter", LogitsOf(**base, adapter->get(), tokens)},
        {"merged", LogitsOf(**merged, nullptr, tokens)}};
    REQUIRE(WriteFileAtomically(out / "expected.json", expected.dump()).ok());
  }
}

}  // namespace
}  // namespace mpo::model
