// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/decoder.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/model/apart.h"
#include "mpo/model/attention.h"
#include "mpo/model/batch_parts.h"
#include "mpo/model/fused_ops.h"
#include "mpo/model/recomputed.h"
#include "mpo/tensor/torch_errors.h"

namespace mpo::model {
namespace {

// Finite, so that a block of keys that are all masked makes no NaN; any real
// score beats it by more than exp can represent.
constexpr double kMasked = -1e30;

// The adapters of modules that share an input, in the order of their outputs.
std::vector<LinearAdapter> Adapters(
    const LoraAdapter* adapter, int64_t layer,
    std::initializer_list<std::pair<Module, int64_t>> modules) {
  std::vector<LinearAdapter> out;
  if (adapter == nullptr) return out;
  for (const auto& [module, begin] : modules) {
    const LoraWeights& weights = adapter->weights(layer, module);
    if (weights.a.defined()) out.push_back({weights.a, weights.b, begin});
  }
  return out;
}

double Scale(const LoraAdapter* adapter) {
  return adapter == nullptr ? 1 : adapter->scale();
}

// [head_dim / 2], or [batch, 1, head_dim / 2] where every sequence has its own.
at::Tensor BatchFrequencies(const ModelConfig& config,
                            const SequenceBatch& batch) {
  const at::Device device = batch.positions.device();
  const bool dynamic = config.rope_scaling.has_value() &&
                       config.rope_scaling->kind == RopeScaling::Kind::kDynamic;
  if (!dynamic || batch.positions.size(1) <= config.context)
    return RotaryFrequencies(config).to(device);
  const at::Tensor lengths = batch.valid.sum(-1).to(at::kCPU, at::kLong);
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < lengths.size(0); ++i)
    rows.push_back(RotaryFrequencies(config, lengths[i].item<int64_t>()));
  return at::stack(rows).unsqueeze(1).to(device);
}

Rotary MakeRotary(const ModelConfig& config, const SequenceBatch& batch) {
  const at::Tensor angles = batch.positions.to(at::kFloat).unsqueeze(-1) *
                            BatchFrequencies(config, batch);
  return {angles.cos(), angles.sin()};
}

// Qwen3's norm of every head of q or k, [batch, length, heads * head_dim];
// `weight` [head_dim], undefined = none.
at::Tensor NormHeads(const at::Tensor& x, const at::Tensor& weight,
                     double eps) {
  if (!weight.defined()) return x;
  return RmsNorm(x.unflatten(-1, {-1, weight.size(0)}), weight, eps)
      .flatten(-2);
}

// What the heads see, joined: [batch, length, heads * head_dim].
at::Tensor SelfAttention(const LanguageModel& model, const LoraAdapter* adapter,
                         int64_t index, const at::Tensor& x,
                         const SequenceBatch& batch, const Rotary& rotary) {
  const ModelConfig& c = model.config();
  const LayerWeights& w = model.layer(index);
  const int64_t q_size = c.q_size();
  const int64_t kv_size = c.kv_size();
  const auto parts = AdaptedLinear(x, w.qkv, w.qkv_bias,
                                   Adapters(adapter, index,
                                            {{Module::kQ, 0},
                                             {Module::kK, q_size},
                                             {Module::kV, q_size + kv_size}}),
                                   Scale(adapter), w.packed.qkv)
                         .split_with_sizes({q_size, kv_size, kv_size}, -1);
  const at::Tensor q = RotateHeads(
      NormHeads(parts[0], w.q_norm, c.rms_norm_eps), c.head_dim, 1, &rotary);
  const int64_t repeat =
      AttendsInLoops(q, c.kv_heads, batch.bias) ? 1 : c.heads / c.kv_heads;
  const at::Tensor k =
      RotateHeads(NormHeads(parts[1], w.k_norm, c.rms_norm_eps), c.head_dim,
                  repeat, &rotary);
  const at::Tensor v = RotateHeads(parts[2], c.head_dim, repeat, nullptr);
  return Attention(q, k, v, batch.bias);
}

at::Tensor Output(const LanguageModel& model, const LoraAdapter* adapter,
                  int64_t index, const at::Tensor& attended) {
  const LayerWeights& w = model.layer(index);
  return AdaptedLinear(attended, w.o, {},
                       Adapters(adapter, index, {{Module::kO, 0}}),
                       Scale(adapter), w.packed.o);
}

at::Tensor FeedForward(const LanguageModel& model, const LoraAdapter* adapter,
                       int64_t index, const at::Tensor& x) {
  const LayerWeights& w = model.layer(index);
  const at::Tensor gate_up =
      AdaptedLinear(x, w.gate_up, {},
                    Adapters(adapter, index,
                             {{Module::kGate, 0},
                              {Module::kUp, model.config().intermediate_size}}),
                    Scale(adapter), w.packed.gate_up);
  return AdaptedLinear(SiluMul(gate_up), w.down, {},
                       Adapters(adapter, index, {{Module::kDown, 0}}),
                       Scale(adapter), w.packed.down);
}

// One layer; with `wanted` defined only those tokens of its result, [N,
// hidden].
at::Tensor Layer(const LanguageModel& model, const LoraAdapter* adapter,
                 int64_t index, const at::Tensor& input,
                 const SequenceBatch& batch, const Rotary& rotary,
                 const at::Tensor& wanted) {
  const double eps = model.config().rms_norm_eps;
  const LayerWeights& w = model.layer(index);
  at::Tensor x = input;
  at::Tensor attended = SelfAttention(
      model, adapter, index, RmsNorm(x, w.input_norm, eps), batch, rotary);
  if (wanted.defined()) {
    x = x.flatten(0, 1).index_select(0, wanted);
    attended = attended.flatten(0, 1).index_select(0, wanted);
  }
  x = x + Output(model, adapter, index, attended);
  return x + FeedForward(model, adapter, index, RmsNorm(x, w.post_norm, eps));
}

// The tensors of a layer that are trained.
std::vector<at::Tensor> TrainedIn(const LanguageModel& model,
                                  const LoraAdapter* adapter, int64_t index) {
  const LayerWeights& w = model.layer(index);
  std::vector<at::Tensor> all = {w.input_norm, w.qkv,     w.qkv_bias,
                                 w.q_norm,     w.k_norm,  w.o,
                                 w.post_norm,  w.gate_up, w.down};
  for (int m = 0; adapter != nullptr && m < kModules; ++m) {
    const LoraWeights& lora = adapter->weights(index, static_cast<Module>(m));
    all.push_back(lora.a);
    all.push_back(lora.b);
  }
  std::erase_if(all, [](const at::Tensor& x) {
    return !x.defined() || !x.requires_grad();
  });
  return all;
}

at::Tensor RunLayer(const LanguageModel& model, const LoraAdapter* adapter,
                    int64_t index, const at::Tensor& input,
                    const SequenceBatch& batch, const Rotary& rotary,
                    const at::Tensor& wanted, Activations activations) {
  if (activations == Activations::kKept || !at::GradMode::is_enabled())
    return Layer(model, adapter, index, input, batch, rotary, wanted);
  return Recomputed(
      [&model, adapter, index, batch, rotary, wanted](const at::Tensor& x) {
        return Layer(model, adapter, index, x, batch, rotary, wanted);
      },
      input, TrainedIn(model, adapter, index));
}

// Of the parts of a batch together, in floats.
constexpr int64_t kMostGradients = int64_t{1} << 26;

struct LayerRange {
  int64_t begin, end;
};

// Layers one after the other; of the last only the tokens `wanted`, where
// defined.
at::Tensor RunTogether(const LanguageModel& model, const LoraAdapter* adapter,
                       const at::Tensor& hidden, const SequenceBatch& batch,
                       LayerRange layers, const at::Tensor& wanted,
                       Activations activations) {
  const Rotary rotary = MakeRotary(model.config(), batch);
  at::Tensor x = hidden;
  for (int64_t i = layers.begin; i < layers.end; ++i) {
    x = RunLayer(model, adapter, i, x, batch, rotary,
                 i + 1 < layers.end ? at::Tensor() : wanted, activations);
  }
  return x;
}

at::Tensor RunLayers(const LanguageModel& model, const LoraAdapter* adapter,
                     const at::Tensor& hidden, const SequenceBatch& batch,
                     LayerRange layers, const at::Tensor& wanted,
                     Activations activations) {
  std::vector<at::Tensor> trained;
  for (int64_t i = layers.begin; i < layers.end; ++i) {
    for (at::Tensor& x : TrainedIn(model, adapter, i))
      trained.push_back(std::move(x));
  }
  // Every part has gradients of its own.
  int64_t gradients = 0;
  for (const at::Tensor& x : trained) gradients += x.numel();
  const bool together = at::GradMode::is_enabled() &&
                        (adapter == nullptr ||
                         gradients * at::get_num_threads() > kMostGradients);
  const std::vector<int64_t> begins =
      together ? std::vector<int64_t>() : ThreadParts(hidden, wanted);
  if (begins.empty()) {
    return RunTogether(model, adapter, hidden, batch, layers, wanted,
                       activations);
  }
  std::vector<BatchPart> parts;
  for (size_t i = 0; i + 1 < begins.size(); ++i)
    parts.push_back(TakePart(batch, wanted, begins[i], begins[i + 1]));
  return RunApart(
      [&model, adapter, layers, activations, parts](size_t i,
                                                    const at::Tensor& input) {
        return RunTogether(model, adapter, input, parts[i].batch, layers,
                           parts[i].wanted, activations);
      },
      begins, hidden, trained);
}

// rope_theta, or what dynamic NTK makes of it.
float RotaryBase(const ModelConfig& config, int64_t length) {
  const auto base = static_cast<float>(config.rope_theta);
  if (!config.rope_scaling.has_value() ||
      config.rope_scaling->kind != RopeScaling::Kind::kDynamic ||
      length <= config.context) {
    return base;
  }
  const auto factor = static_cast<float>(config.rope_scaling->factor);
  const auto dim = static_cast<float>(config.head_dim);
  const float stretch =
      factor * static_cast<float>(length) / static_cast<float>(config.context) -
      (factor - 1.0F);
  return base * std::pow(stretch, dim / (dim - 2.0F));
}

}  // namespace

absl::Status CheckTokens(const ModelConfig& config,
                         const std::vector<int32_t>& tokens,
                         std::string_view id) {
  const std::string name(id);
  if (tokens.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence '", name, "' has no tokens"));
  }
  if (static_cast<int64_t>(tokens.size()) > config.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence '", name, "' has ", tokens.size(),
                     " tokens, the context is ", config.context));
  }
  for (int32_t token : tokens) {
    if (token < 0 || token >= config.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence '", name, "': token ", token,
                       " is outside the vocabulary of ", config.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SequenceBatch> PadSequences(
    const std::vector<std::vector<int32_t>>& sequences, PaddingSide side,
    const at::Device& device) {
  size_t longest = 0;
  for (const auto& sequence : sequences) {
    if (sequence.empty())
      return absl::InvalidArgumentError("a sequence has no tokens");
    longest = std::max(longest, sequence.size());
  }
  if (sequences.empty())
    return absl::InvalidArgumentError("no sequences to pad");
  return tensor::CatchTorch("pad sequences", [&] {
    const int64_t rows = static_cast<int64_t>(sequences.size());
    const int64_t length = static_cast<int64_t>(longest);
    SequenceBatch batch;
    batch.tokens = at::zeros({rows, length}, at::kLong);
    batch.positions = at::zeros({rows, length}, at::kLong);
    batch.valid = at::zeros({rows, length}, at::kBool);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t size = static_cast<int64_t>(sequences[i].size());
      const int64_t begin =
          i * length + (side == PaddingSide::kLeft ? length - size : 0);
      for (int64_t j = 0; j < size; ++j) {
        batch.tokens.mutable_data_ptr<int64_t>()[begin + j] = sequences[i][j];
        batch.positions.mutable_data_ptr<int64_t>()[begin + j] = j;
        batch.valid.mutable_data_ptr<bool>()[begin + j] = true;
      }
    }
    if (side == PaddingSide::kLeft && !batch.valid.all().item<bool>()) {
      const at::Tensor causal = at::ones({length, length}, at::kBool).tril();
      // The diagonal stays open: a padding row attends to itself and stays
      // finite.
      const at::Tensor open =
          causal.logical_and(batch.valid.view({rows, 1, 1, length}))
              .logical_or(at::eye(length, at::kBool));
      batch.bias = at::zeros({rows, 1, length, length}, at::kFloat)
                       .masked_fill_(open.logical_not(), kMasked);
    }
    batch.tokens = batch.tokens.to(device);
    batch.positions = batch.positions.to(device);
    batch.valid = batch.valid.to(device);
    if (batch.bias.defined()) batch.bias = batch.bias.to(device);
    return batch;
  });
}

at::Tensor RotaryFrequencies(const ModelConfig& config, int64_t length) {
  const int64_t half = config.head_dim / 2;
  const float base = RotaryBase(config, length);
  at::Tensor out = at::empty({half}, at::kFloat);
  for (int64_t i = 0; i < half; ++i) {
    // Float32 steps as in the reference implementation, so that long contexts
    // agree.
    const float exponent =
        static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    float frequency = 1.0F / std::pow(base, exponent);
    if (config.rope_scaling.has_value() &&
        config.rope_scaling->kind != RopeScaling::Kind::kDynamic) {
      const RopeScaling& s = *config.rope_scaling;
      const double plain = frequency;
      double scaled = plain / s.factor;
      if (s.kind == RopeScaling::Kind::kLlama3) {
        const double wavelength = 2 * M_PI / plain;
        const double context = static_cast<double>(s.original_context);
        const double smooth =
            std::clamp((context / wavelength - s.low_freq_factor) /
                           (s.high_freq_factor - s.low_freq_factor),
                       0.0, 1.0);
        scaled = (1 - smooth) * scaled + smooth * plain;
      }
      frequency = static_cast<float>(scaled);
    }
    out.mutable_data_ptr<float>()[i] = frequency;
  }
  return out;
}

at::Tensor Embed(const LanguageModel& model, const at::Tensor& tokens) {
  return at::embedding(model.embedding(), tokens);
}

at::Tensor ForwardLayers(const LanguageModel& model, const LoraAdapter* adapter,
                         const at::Tensor& hidden, const SequenceBatch& batch,
                         int64_t first_layer, int64_t last_layer,
                         Activations activations) {
  return RunLayers(model, adapter, hidden, batch, {first_layer, last_layer}, {},
                   activations);
}

at::Tensor ForwardLayersAt(const LanguageModel& model,
                           const LoraAdapter* adapter, const at::Tensor& hidden,
                           const SequenceBatch& batch, int64_t first_layer,
                           const at::Tensor& index, Activations activations) {
  const int64_t layers = model.config().layers;
  if (first_layer >= layers) return hidden.flatten(0, 1).index_select(0, index);
  return RunLayers(model, adapter, hidden, batch, {first_layer, layers}, index,
                   activations);
}

at::Tensor FinalNorm(const LanguageModel& model, const at::Tensor& hidden) {
  return RmsNorm(hidden, model.final_norm(), model.config().rms_norm_eps);
}

at::Tensor Head(const LanguageModel& model, const LoraAdapter* adapter,
                const at::Tensor& normed) {
  std::vector<LinearAdapter> adapters;
  if (adapter != nullptr && adapter->head().a.defined())
    adapters.push_back({adapter->head().a, adapter->head().b, 0});
  return AdaptedLinear(normed, model.head(), {}, adapters, Scale(adapter));
}

at::Tensor HeadWeight(const LanguageModel& model, const LoraAdapter* adapter) {
  if (adapter == nullptr || !adapter->head().a.defined()) return model.head();
  const LoraWeights& head = adapter->head();
  return model.head() + at::mm(head.b, head.a * adapter->scale())
                            .to(model.head().scalar_type());
}

at::Tensor Forward(const LanguageModel& model, const LoraAdapter* adapter,
                   const SequenceBatch& batch) {
  const at::Tensor hidden =
      ForwardLayers(model, adapter, Embed(model, batch.tokens), batch, 0,
                    model.config().layers);
  return Head(model, adapter, FinalNorm(model, hidden));
}

}  // namespace mpo::model
