// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "mpo/model/lora.h"
#include "mpo/model/model_config.h"

namespace mpo::generation {

// The update of one fused projection as two thin products, out += up (down x);
// undefined where no module of the projection has an adapter.
struct ThinProduct {
  at::Tensor down;  // [rank, in]: the modules' A, stacked.
  at::Tensor up;    // [out, rank]: their B, scaled, block-diagonal.
};

struct LayerProducts {
  ThinProduct qkv, o, gate_up, down;
};

// An adapter in the layout of the fused projections of generation. Immutable.
// The constructor throws LibTorch's exceptions.
class AdapterProducts {
 public:
  AdapterProducts() = default;
  // `adapter` null = none.
  AdapterProducts(const model::ModelConfig& config,
                  const model::LoraAdapter* adapter);

  const LayerProducts& layer(int64_t index) const;
  const ThinProduct& head() const { return head_; }
  // The largest rank of all products; 0 without an adapter.
  int width() const { return width_; }

 private:
  std::vector<LayerProducts> layers_;
  ThinProduct head_;
  int width_ = 0;
};

}  // namespace mpo::generation
