// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/ragged_forward.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "mpo/generation/small_product.h"
#include "mpo/model/decoder.h"

namespace mpo::generation {
namespace {

using model::Module;

float* Floats(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

const float* FloatsOrNull(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

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

// Moves the wanted rows of a [rows, width] buffer to its front.
void Compact(float* data, int64_t width, const std::vector<int>& wanted) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == static_cast<int>(i)) continue;
    std::memcpy(data + static_cast<int64_t>(i) * width,
                data + wanted[i] * width, sizeof(float) * width);
  }
}

}  // namespace

RaggedForward::RaggedForward(std::shared_ptr<const model::LanguageModel> model)
    : model_(std::move(model)) {
  const model::ModelConfig& c = model_->config();
  shape_ = {.heads = static_cast<int>(c.heads),
            .kv_heads = static_cast<int>(c.kv_heads),
            .head_dim = static_cast<int>(c.head_dim)};
}

void RaggedForward::SetAdapter(const model::LoraAdapter* adapter) {
  at::NoGradGuard no_grad;
  adapters_.clear();
  head_adapter_ = {};
  if (adapter == nullptr) return;
  const model::ModelConfig& c = model_->config();
  adapters_.resize(c.layers);
  auto fill = [&](Thin& thin, const std::vector<FusedPart>& parts) {
    if (auto pair = Stack(*adapter, parts)) {
      thin.down = pair->first;
      thin.up = pair->second;
    }
  };
  for (int64_t i = adapter->first_layer(); i < c.layers; ++i) {
    LayerAdapter& layer = adapters_[i];
    fill(layer.qkv, {{adapter->weights(i, Module::kQ), c.q_size()},
                     {adapter->weights(i, Module::kK), c.kv_size()},
                     {adapter->weights(i, Module::kV), c.kv_size()}});
    fill(layer.o, {{adapter->weights(i, Module::kO), c.hidden_size}});
    fill(layer.gate_up,
         {{adapter->weights(i, Module::kGate), c.intermediate_size},
          {adapter->weights(i, Module::kUp), c.intermediate_size}});
    fill(layer.down, {{adapter->weights(i, Module::kDown), c.hidden_size}});
  }
  fill(head_adapter_, {{adapter->head(), c.vocab_size}});
}

void RaggedForward::Grow(int64_t rows, int64_t positions) {
  const model::ModelConfig& c = model_->config();
  if (rows > capacity_) {
    capacity_ = rows;
    hidden_ = at::empty({rows, c.hidden_size}, at::kFloat);
    normed_ = at::empty({rows, c.hidden_size}, at::kFloat);
    qkv_ = at::empty({rows, shape_.qkv_size()}, at::kFloat);
    attended_ = at::empty({rows, shape_.q_size()}, at::kFloat);
    gate_up_ = at::empty({rows, 2 * c.intermediate_size}, at::kFloat);
    inner_ = at::empty({rows, c.intermediate_size}, at::kFloat);
  }
  if (positions > positions_) {
    positions_ = std::min(c.context, std::max<int64_t>(256, 2 * positions));
    const at::Tensor angles = at::arange(positions_, at::kFloat).unsqueeze(1) *
                              model::RotaryFrequencies(c).unsqueeze(0);
    cos_ = angles.cos().contiguous();
    sin_ = angles.sin().contiguous();
  }
}

void RaggedForward::Multiply(const at::Tensor& input, const at::Tensor& weight,
                             bool accumulate, at::Tensor out) {
  if (input.size(0) <= SmallProductRows()) {
    SmallProduct(input.const_data_ptr<float>(), static_cast<int>(input.size(0)),
                 static_cast<int>(input.size(1)),
                 weight.const_data_ptr<float>(),
                 static_cast<int>(weight.size(0)), accumulate, Floats(out),
                 scratch_, at::get_num_threads());
  } else if (accumulate) {
    out.addmm_(input, weight.t());
  } else {
    at::mm_out(out, input, weight.t());
  }
}

void RaggedForward::AddAdapter(const Thin& thin, const at::Tensor& input,
                               const at::Tensor& output) {
  if (!thin.down.defined()) return;
  const int64_t size = input.size(0) * thin.down.size(0);
  if (!thin_.defined() || thin_.numel() < size)
    thin_ = at::empty({size}, at::kFloat);
  at::Tensor low =
      thin_.narrow(0, 0, size).view({input.size(0), thin.down.size(0)});
  Multiply(input, thin.down, /*accumulate=*/false, low);
  Multiply(low, thin.up, /*accumulate=*/true, output);
}

void RaggedForward::RunLayer(int64_t index, std::vector<TokenRow>& rows,
                             const std::vector<int>& wanted) {
  const model::ModelConfig& c = model_->config();
  const model::LayerWeights& w = model_->layer(index);
  static const LayerAdapter kNone;
  const LayerAdapter& adapter = adapters_.empty() ? kNone : adapters_[index];
  const int threads = at::get_num_threads();
  const auto eps = static_cast<float>(c.rms_norm_eps);
  const int width = static_cast<int>(c.hidden_size);
  int n = static_cast<int>(rows.size());
  auto first = [&](const at::Tensor& buffer) { return buffer.narrow(0, 0, n); };

  RmsNormRows(Floats(hidden_), w.input_norm.const_data_ptr<float>(), eps, n,
              width, Floats(normed_), threads);
  at::Tensor qkv = first(qkv_);
  Multiply(first(normed_), w.qkv, /*accumulate=*/false, qkv);
  AddAdapter(adapter.qkv, first(normed_), qkv);
  const int64_t offset = index * shape_.page_floats();
  RotateAndAppend(shape_, rows.data(), n, Floats(qkv_),
                  {.bias = FloatsOrNull(w.qkv_bias),
                   .q_norm = FloatsOrNull(w.q_norm),
                   .k_norm = FloatsOrNull(w.k_norm),
                   .eps = eps},
                  cos_.const_data_ptr<float>(), sin_.const_data_ptr<float>(),
                  offset, threads);
  if (index + 1 == c.layers && static_cast<int>(wanted.size()) < n) {
    // After the last layer's keys and values nothing but the wanted rows
    // matters.
    Compact(Floats(qkv_), shape_.qkv_size(), wanted);
    Compact(Floats(hidden_), c.hidden_size, wanted);
    for (size_t i = 0; i < wanted.size(); ++i) rows[i] = rows[wanted[i]];
    rows.resize(wanted.size());
    n = static_cast<int>(rows.size());
    if (n == 0) return;
  }
  AttendRows(shape_, rows.data(), n, Floats(qkv_), offset, Floats(attended_),
             threads);
  at::Tensor hidden = first(hidden_);
  Multiply(first(attended_), w.o, /*accumulate=*/true, hidden);
  AddAdapter(adapter.o, first(attended_), hidden);

  RmsNormRows(Floats(hidden_), w.post_norm.const_data_ptr<float>(), eps, n,
              width, Floats(normed_), threads);
  at::Tensor gate_up = first(gate_up_);
  Multiply(first(normed_), w.gate_up, /*accumulate=*/false, gate_up);
  AddAdapter(adapter.gate_up, first(normed_), gate_up);
  SiluMulRows(Floats(gate_up_), n, static_cast<int>(c.intermediate_size),
              Floats(inner_), threads);
  Multiply(first(inner_), w.down, /*accumulate=*/true, hidden);
  AddAdapter(adapter.down, first(inner_), hidden);
}

int RaggedForward::Run(const std::vector<InputToken>& tokens,
                       int64_t first_layer, int64_t keep) {
  at::NoGradGuard no_grad;
  const model::ModelConfig& c = model_->config();
  std::vector<TokenRow> rows;
  std::vector<int32_t> ids;
  std::vector<int> wanted;
  int64_t positions = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    rows.push_back(tokens[i].row);
    ids.push_back(tokens[i].token);
    if (tokens[i].wanted) wanted.push_back(static_cast<int>(i));
    positions = std::max<int64_t>(positions, tokens[i].row.position + 1);
  }
  wanted_ = static_cast<int>(wanted.size());
  if (tokens.empty()) return 0;
  Grow(static_cast<int64_t>(tokens.size()), positions);
  const int threads = at::get_num_threads();
  const int width = static_cast<int>(c.hidden_size);
  float* hidden = Floats(hidden_);
  const size_t row_bytes = sizeof(float) * width;
  if (first_layer == 0) {
    EmbedRows(model_->embedding().const_data_ptr<float>(), ids.data(),
              static_cast<int>(ids.size()), width, hidden, threads);
  } else {
    for (size_t i = 0; i < tokens.size(); ++i)
      std::memcpy(hidden + i * width, tokens[i].trunk, row_bytes);
  }
  for (int64_t layer = first_layer; layer < c.layers; ++layer) {
    for (size_t i = 0; layer == keep && layer > 0 && i < tokens.size(); ++i) {
      if (tokens[i].trunk != nullptr)
        std::memcpy(tokens[i].trunk, hidden + i * width, row_bytes);
    }
    RunLayer(layer, rows, wanted);
  }
  RmsNormRows(Floats(hidden_), model_->final_norm().const_data_ptr<float>(),
              static_cast<float>(c.rms_norm_eps), wanted_, width,
              Floats(normed_), threads);
  return wanted_;
}

const float* RaggedForward::Logits(int begin, int count) {
  at::NoGradGuard no_grad;
  const int64_t vocabulary = model_->config().vocab_size;
  if (!logits_.defined() || logits_.size(0) < count) {
    logits_ = at::empty({count, vocabulary}, at::kFloat);
  }
  at::Tensor out = logits_.narrow(0, 0, count);
  const at::Tensor rows = normed_.narrow(0, begin, count);
  Multiply(rows, model_->head(), /*accumulate=*/false, out);
  AddAdapter(head_adapter_, rows, out);
  return logits_.const_data_ptr<float>();
}

}  // namespace mpo::generation
