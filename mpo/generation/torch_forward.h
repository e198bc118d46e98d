// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "mpo/generation/adapter_products.h"
#include "mpo/generation/forward_pass.h"

namespace mpo::generation {

// The forward pass in LibTorch's operations, on the model's device and in its
// dtype, with attention by scaled_dot_product_attention over pages gathered
// from a pool on the device. A page of KvCache is only the number of a slot of
// the pool.
class TorchForward final : public ForwardPass {
 public:
  explicit TorchForward(std::shared_ptr<const model::LanguageModel> model);

  void SetModel(std::shared_ptr<const model::LanguageModel> model) override {
    model_ = std::move(model);
  }
  void SetAdapter(const model::LoraAdapter* adapter) override;
  int Run(const std::vector<InputToken>& tokens, int64_t first_layer,
          int64_t keep) override;
  LogitRows Logits(int begin, int count) override;

  int64_t page_floats() const override { return 16; }
  uint64_t page_bytes() const override;
  uint64_t bytes_elsewhere() const override;
  void set_page_limit(int64_t pages) override { page_limit_ = pages; }
  KvCache::CopyPage page_copier() override;

 private:
  // Tokens of a pass that attend together.
  struct AttentionGroup {
    at::Tensor rows;   // [rows] of the pass, int64.
    at::Tensor pages;  // [sequences * pages] slots, int64.
    at::Tensor mask;   // [sequences, 1, queries, keys] bool.
    int64_t sequences = 0;
  };
  struct Pass {
    at::Tensor cos, sin;  // [1, rows, head_dim / 2]
    at::Tensor places;    // [rows] in the pool, int64.
    std::vector<AttentionGroup> groups;
  };

  Pass PlanPass(const std::vector<InputToken>& tokens);
  // All single tokens as one group, padded to the longest; each longer run of
  // tokens of one sequence by itself.
  std::vector<AttentionGroup> PlanAttention(
      const std::vector<InputToken>& tokens) const;
  AttentionGroup MakeGroup(const std::vector<InputToken>& tokens,
                           const std::vector<int64_t>& rows,
                           int64_t sequences) const;
  at::Tensor Inputs(const std::vector<InputToken>& tokens,
                    int64_t first_layer) const;
  void KeepTrunk(const std::vector<InputToken>& tokens,
                 const at::Tensor& hidden) const;
  at::Tensor RunLayer(int64_t index, const at::Tensor& hidden,
                      const Pass& pass);
  at::Tensor Attend(int64_t index, const at::Tensor& q, const Pass& pass) const;
  at::Tensor Project(const at::Tensor& x, const at::Tensor& weight,
                     const at::Tensor& bias, const ThinProduct& thin) const;
  void GrowPool(int64_t slots);
  at::TensorOptions Options() const;
  at::Tensor Indices(const std::vector<int64_t>& values) const;

  std::shared_ptr<const model::LanguageModel> model_;
  std::vector<LayerProducts> adapter_;  // Empty = none.
  ThinProduct head_adapter_;
  at::Tensor keys_, values_;  // [layers, slots * 16, kv heads, head_dim]
  int64_t slots_ = 0;
  int64_t page_limit_ = 0;
  at::Tensor normed_;  // [wanted, hidden]
  at::Tensor logits_;  // float32 on the CPU.
};

}  // namespace mpo::generation
