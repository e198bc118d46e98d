// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/adapter_products.h"

#include <torch/torch.h>

#include <algorithm>
#include <optional>

namespace mpo::generation {
namespace {

using model::Module;

// One module of a fused projection: its adapter (perhaps none) and its rows.
struct FusedPart {
  const model::LoraWeights& weights;
  int64_t outputs;
};

// The adapters of modules that share an input and a fused output as one pair:
// A stacked, B block-diagonal.
std::optional<std::pair<at::Tensor, at::Tensor>> Stack(
    const model::LoraAdapter& adapter, const std::vector<FusedPart>& parts) {
  std::vector<at::Tensor> down;
  int64_t total = 0;
  for (const FusedPart& part : parts) total += part.outputs;
  const int64_t rank = adapter.config().rank;
  at::Tensor up =
      at::zeros({total, rank * static_cast<int64_t>(parts.size())}, at::kFloat);
  int64_t row = 0;
  for (const FusedPart& part : parts) {
    if (part.weights.a.defined()) {
      up.narrow(0, row, part.outputs)
          .narrow(1, rank * static_cast<int64_t>(down.size()), rank)
          .copy_(part.weights.b * adapter.scale());
      down.push_back(part.weights.a);
    }
    row += part.outputs;
  }
  if (down.empty()) return std::nullopt;
  return std::pair(
      at::cat(down).contiguous(),
      up.narrow(1, 0, rank * static_cast<int64_t>(down.size())).contiguous());
}

}  // namespace

AdapterProducts::AdapterProducts(const model::ModelConfig& c,
                                 const model::LoraAdapter* adapter) {
  at::NoGradGuard no_grad;
  if (adapter == nullptr) return;
  layers_.resize(c.layers);
  auto fill = [&](ThinProduct& thin, const std::vector<FusedPart>& parts) {
    if (auto pair = Stack(*adapter, parts)) {
      thin.down = pair->first;
      thin.up = pair->second;
      width_ = std::max(width_, static_cast<int>(thin.down.size(0)));
    }
  };
  for (int64_t i = adapter->first_layer(); i < c.layers; ++i) {
    LayerProducts& layer = layers_[i];
    fill(layer.qkv, {{adapter->weights(i, Module::kQ), c.q_size()},
                     {adapter->weights(i, Module::kK), c.kv_size()},
                     {adapter->weights(i, Module::kV), c.kv_size()}});
    fill(layer.o, {{adapter->weights(i, Module::kO), c.hidden_size}});
    fill(layer.gate_up,
         {{adapter->weights(i, Module::kGate), c.intermediate_size},
          {adapter->weights(i, Module::kUp), c.intermediate_size}});
    fill(layer.down, {{adapter->weights(i, Module::kDown), c.hidden_size}});
  }
  fill(head_, {{adapter->head(), c.vocab_size}});
}

const LayerProducts& AdapterProducts::layer(int64_t index) const {
  static const LayerProducts kNone;
  return layers_.empty() ? kNone : layers_[index];
}

}  // namespace mpo::generation
