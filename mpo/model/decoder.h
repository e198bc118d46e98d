// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"

namespace mpo::model {

// The differentiable forward pass, by layer range, for training and for tests
// (generation has its own engine). Pure functions of their arguments, so
// thread-safe; LibTorch's exceptions pass through: callers wrap their work in
// tensor::CatchTorch. Whether gradients flow is the caller's grad mode.

// A padded batch of sequences and what the layers need to know about it.
struct SequenceBatch {
  at::Tensor tokens;     // [batch, length] int64; 0 at padding.
  at::Tensor valid;      // [batch, length] bool; false at padding.
  at::Tensor positions;  // [batch, length] int64: index within the sequence.
  // [batch, 1, length, length] added to the scores; undefined = causal only,
  // which is enough when no padding stands left of a token.
  at::Tensor bias;
};

enum class PaddingSide { kRight, kLeft };

// Pads sequences to the longest. Right padding costs no mask; left padding
// gets one under which padding reaches no token. INVALID_ARGUMENT for no or an
// empty sequence, RESOURCE_EXHAUSTED when memory is short.
absl::StatusOr<SequenceBatch> PadSequences(
    const std::vector<std::vector<int32_t>>& sequences,
    PaddingSide side = PaddingSide::kRight,
    const at::Device& device = at::kCPU);

// OK when every token is in [0, vocabulary) and every sequence has 1 to
// context tokens. INVALID_ARGUMENT names `id`, the token or the lengths.
absl::Status CheckTokens(const ModelConfig& config,
                         const std::vector<int32_t>& tokens,
                         std::string_view id);

// Rows of the embedding: [batch, length, hidden].
at::Tensor Embed(const LanguageModel& model, const at::Tensor& tokens);

// What the backward pass finds: everything a layer computed, or its input only,
// from which the layer is computed again (gradient checkpointing, Chen et al.
// 2016): a third more work, and memory for one layer in place of all. The
// gradients are the same bits.
enum class Activations { kKept, kRecomputed };

// Decoder layers [first_layer, last_layer) on `hidden` [batch, length,
// hidden]; `adapter` null = the base, the reference policy. Two calls over
// adjacent ranges equal one: run the trunk [0, adapter->first_layer()) once
// under no_grad and reuse its output. Rows at padding hold finite rubbish. With
// kRecomputed model and adapter must live, and stay as they are, until the
// backward pass is over.
at::Tensor ForwardLayers(const LanguageModel& model, const LoraAdapter* adapter,
                         const at::Tensor& hidden, const SequenceBatch& batch,
                         int64_t first_layer, int64_t last_layer,
                         Activations activations = Activations::kKept);

// Layers [first_layer, the last] of which only the tokens at `index` [N] int64
// are wanted, counted over the flattened [batch, length]; returns [N, hidden].
// The last layer's output projection and feed-forward run for these only.
at::Tensor ForwardLayersAt(const LanguageModel& model,
                           const LoraAdapter* adapter, const at::Tensor& hidden,
                           const SequenceBatch& batch, int64_t first_layer,
                           const at::Tensor& index,
                           Activations activations = Activations::kKept);

// The norm before the head, on [..., hidden].
at::Tensor FinalNorm(const LanguageModel& model, const at::Tensor& hidden);

// Logits [..., vocabulary] of hidden states that FinalNorm returned, with the
// adapter's update of the head where it has one (null = the base). Select the
// rows first: logits of a whole batch are large.
at::Tensor Head(const LanguageModel& model, const LoraAdapter* adapter,
                const at::Tensor& normed);

// The matrix [vocabulary, hidden] that Head multiplies by: the model's own, or
// a new one with the adapter's update added. Gradients reach the adapter.
at::Tensor HeadWeight(const LanguageModel& model, const LoraAdapter* adapter);

// All of the above: logits [batch, length, vocabulary]. For tests and small
// models.
at::Tensor Forward(const LanguageModel& model, const LoraAdapter* adapter,
                   const SequenceBatch& batch);

// Rotary frequencies [head_dim / 2], float32, with the configuration's scaling,
// as transformers 4.51 computes them. `length` is the number of tokens of the
// sequence; only dynamic NTK looks at it, and only where it is larger than
// config.context: then the base rope_theta becomes
//   rope_theta * (factor * length / context - (factor - 1))
//     ^ (head_dim / (head_dim - 2)).
// ForwardLayers takes each sequence's own length, so what it is batched with
// does not matter (transformers takes the longest of the batch).
at::Tensor RotaryFrequencies(const ModelConfig& config, int64_t length = 0);

}  // namespace mpo::model
