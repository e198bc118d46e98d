// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mpo/generation/kernels.h"
#include "mpo/generation/kv_cache.h"
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

// Rows of logits, [rows, vocabulary].
struct LogitRows {
  const float* data = nullptr;
  int64_t stride = 0;  // Floats from a row to the next.

  const float* row(int64_t i) const { return data + i * stride; }
};

// The forward pass of generation: any mix of tokens of any sequences (prompts,
// chunks of prompts, single decode steps), no padding. Not thread-safe. Throws
// LibTorch's exceptions.
class ForwardPass {
 public:
  virtual ~ForwardPass() = default;

  // Takes other weights of the same configuration, dtype and device.
  virtual void SetModel(std::shared_ptr<const model::LanguageModel> model) = 0;
  // Takes the adapter of the following passes; null = none.
  virtual void SetAdapter(const model::LoraAdapter* adapter) = 0;

  // Runs the tokens through layers [first_layer, layers) and stores their keys
  // and values. The tokens of one sequence must come side by side in order of
  // position, and earlier positions must have been run. From layer 0 on, the
  // inputs of layer `keep` (0 = none) are written to each token's `trunk` where
  // it is set; from another layer on, that layer's inputs are read there.
  // Returns the number of wanted rows.
  virtual int Run(const std::vector<InputToken>& tokens,
                  int64_t first_layer = 0, int64_t keep = 0) = 0;
  // Logits of wanted rows [begin, begin + count) of the last Run, in a buffer
  // that the next call overwrites.
  virtual LogitRows Logits(int begin, int count) = 0;

  // Floats of a page in the memory of KvCache.
  virtual int64_t page_floats() const = 0;
  // Bytes that the keys and values of a page take, wherever they lie.
  virtual uint64_t page_bytes() const = 0;
  // Bytes taken outside of KvCache's memory.
  virtual uint64_t bytes_elsewhere() const { return 0; }
  // The cache will hold at most so many pages; 0 = no limit.
  virtual void set_page_limit(int64_t /*pages*/) {}
  // What copies a page where its keys and values are not in its own memory;
  // empty = they are.
  virtual KvCache::CopyPage page_copier() { return nullptr; }
};

// The fused pass where the model is float32 on the CPU and `fused`, else
// LibTorch's.
std::unique_ptr<ForwardPass> MakeForwardPass(
    std::shared_ptr<const model::LanguageModel> model, bool fused);

}  // namespace mpo::generation
