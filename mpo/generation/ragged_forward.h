// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "mpo/generation/kernels.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"

namespace mpo::generation {

// One token to run: its sequence is known by its pages.
struct InputToken {
  int32_t token = 0;
  TokenRow row;
  bool wanted = false;     // Its hidden state is needed after the last layer.
  float* trunk = nullptr;  // [hidden], see Run.
};

// The forward pass of generation: any mix of tokens of any sequences (prompts,
// chunks of prompts, single decode steps), no padding. Matrix products by
// LibTorch into buffers that are kept, everything between them in fused loops.
// Not thread-safe. Throws LibTorch's exceptions.
class RaggedForward {
 public:
  explicit RaggedForward(std::shared_ptr<const model::LanguageModel> model);

  // Takes other weights of the same configuration.
  void SetModel(std::shared_ptr<const model::LanguageModel> model) {
    model_ = std::move(model);
  }

  // Takes the adapter of the following passes (null = none) in the layout of
  // two thin products a fused projection.
  void SetAdapter(const model::LoraAdapter* adapter);

  // Runs the tokens through layers [first_layer, layers) and stores their keys
  // and values. The tokens of one sequence must come in order of position, and
  // earlier positions must have been run. From layer 0 on, the inputs of layer
  // `keep` (0 = none) are written to each token's `trunk` where it is set; from
  // another layer on, that layer's inputs are read there. Returns the number of
  // wanted rows.
  int Run(const std::vector<InputToken>& tokens, int64_t first_layer = 0,
          int64_t keep = 0);

  // Logits of wanted rows [begin, begin + count) of the last Run:
  // [count, vocabulary] in a buffer that the next call overwrites.
  const float* Logits(int begin, int count);

  const AttentionShape& shape() const { return shape_; }
  // Floats of a page over all layers.
  int64_t page_floats() const {
    return shape_.page_floats() * model_->config().layers;
  }

 private:
  struct Thin {
    at::Tensor down;  // [rank, in]: A.
    at::Tensor up;    // [out, rank]: B, scaled.
  };
  struct LayerAdapter {
    Thin qkv, o, gate_up, down;
  };

  void Grow(int64_t rows, int64_t positions);
  // out = input weight^T, or out += input weight^T.
  void Multiply(const at::Tensor& input, const at::Tensor& weight,
                bool accumulate, at::Tensor out);
  void AddAdapter(const Thin& thin, const at::Tensor& input,
                  const at::Tensor& output);
  void RunLayer(int64_t index, std::vector<TokenRow>& rows,
                const std::vector<int>& wanted);

  std::shared_ptr<const model::LanguageModel> model_;
  AttentionShape shape_;
  std::vector<LayerAdapter> adapters_;
  Thin head_adapter_;
  int64_t capacity_ = 0;
  int64_t positions_ = 0;
  int wanted_ = 0;
  at::Tensor hidden_, normed_, qkv_, attended_, gate_up_, inner_, thin_,
      logits_;
  at::Tensor cos_, sin_;  // [positions, head_dim / 2]
  std::vector<float> scratch_;
};

}  // namespace mpo::generation
