// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "mpo/generation/adapter_products.h"
#include "mpo/generation/forward_pass.h"
#include "mpo/generation/kernels.h"
#include "mpo/generation/lanes.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"

namespace mpo::generation {

// The pass for float32 models on the CPU. Tokens stand side by side (lanes.h)
// but for attention. A pass is either split by tokens, where each thread takes
// blocks of them through a layer by itself, or, where its tokens are too few
// for that, by the columns of the matrices.
class RaggedForward final : public ForwardPass {
 public:
  explicit RaggedForward(std::shared_ptr<const model::LanguageModel> model);

  void SetModel(std::shared_ptr<const model::LanguageModel> model) override {
    model_ = std::move(model);
  }
  // In the layout of two thin products a fused projection.
  void SetAdapter(const model::LoraAdapter* adapter) override;
  int Run(const std::vector<InputToken>& tokens, int64_t first_layer = 0,
          int64_t keep = 0) override;
  LogitRows Logits(int begin, int count) override;

  const AttentionShape& shape() const { return shape_; }
  // Of a page over all layers.
  int64_t page_floats() const override {
    return shape_.page_floats() * model_->config().layers;
  }
  uint64_t page_bytes() const override {
    return static_cast<uint64_t>(page_floats()) * sizeof(float);
  }

 private:
  // Tokens [begin, begin + rows) of a pass; begin is a multiple of 16.
  struct Block {
    int begin = 0;
    int rows = 0;
    Lanes lanes;
  };
  // What one thread needs for one block.
  struct Scratch {
    float* packed;    // max(hidden, q) wide lanes: input of a product.
    float* wide;      // max(hidden, qkv, 2 intermediate)
    float* inner;     // intermediate
    float* attended;  // [lanes, q]
    float* thin;      // adapter width: input of an adapter's B.
  };

  // Divides a pass of `rows` tokens into blocks and makes room for it.
  void Plan(int rows);
  void GrowAngles(int64_t positions);
  int64_t PackedWidth() const;
  int64_t WideWidth() const;
  int64_t LogitStride() const;
  Scratch ScratchOf(int slot, int lanes) const;
  float* Hidden(const Block& block) const;
  // out = weight input, or out += weight input, in lanes.
  void Multiply(const float* input, Lanes lanes, const at::Tensor& weight,
                bool accumulate, float* out) const;
  void AddAdapter(const ThinProduct& thin, const float* input, Lanes lanes,
                  float* low, float* out) const;
  void Norm(const at::Tensor& weight, const Block& block, float* out) const;
  // A layer up to the storing of keys and values, and the rest of it.
  void BeginLayer(int64_t index, const Block& block, const Scratch& scratch);
  void EndLayer(int64_t index, const Block& block, const Scratch& scratch);
  void KeepTrunk(const std::vector<InputToken>& tokens, const Block& block,
                 const Scratch& scratch) const;
  // Whether every sequence lies within one block.
  bool BlocksApart() const;
  // Leaves only the wanted tokens in the pass.
  void KeepWanted(const std::vector<int>& wanted);
  void HeadColumns(const Block& block, const float* input, const float* low,
                   int64_t column, float* scratch);

  std::shared_ptr<const model::LanguageModel> model_;
  AttentionShape shape_;
  AdapterProducts adapter_;

  std::vector<Block> blocks_;
  int threads_in_block_ = 1;  // 1 where the threads have blocks of their own.
  int64_t slot_floats_ = 0;   // Scratch of one thread.
  std::vector<TokenRow> rows_;
  int64_t positions_ = 0;
  int wanted_ = 0;
  at::Tensor hidden_;   // Blocks of hidden lanes.
  at::Tensor qkv_;      // [rows, qkv]
  at::Tensor normed_;   // [wanted, hidden]
  at::Tensor scratch_;  // Of every slot.
  at::Tensor head_in_, logits_;
  at::Tensor cos_, sin_;  // [positions, head_dim / 2]
};

}  // namespace mpo::generation
