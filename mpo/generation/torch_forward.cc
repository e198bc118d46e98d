// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/torch_forward.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "mpo/model/decoder.h"
#include "mpo/model/fused_ops.h"

namespace mpo::generation {
namespace {

constexpr int64_t kFirstSlots = 64;

ThinProduct Moved(const ThinProduct& thin, const at::TensorOptions& options) {
  if (!thin.down.defined()) return {};
  return {thin.down.to(options), thin.up.to(options)};
}

}  // namespace

TorchForward::TorchForward(std::shared_ptr<const model::LanguageModel> model)
    : model_(std::move(model)) {}

at::TensorOptions TorchForward::Options() const {
  return at::TensorOptions().dtype(model_->dtype()).device(model_->device());
}

at::Tensor TorchForward::Indices(const std::vector<int64_t>& values) const {
  return at::tensor(values, at::kLong).to(model_->device());
}

void TorchForward::SetAdapter(const model::LoraAdapter* adapter) {
  at::NoGradGuard no_grad;
  adapter_.clear();
  head_adapter_ = {};
  if (adapter == nullptr) return;
  const AdapterProducts products(model_->config(), adapter);
  const at::TensorOptions options = Options();
  for (int64_t i = 0; i < model_->config().layers; ++i) {
    const LayerProducts& layer = products.layer(i);
    adapter_.push_back({Moved(layer.qkv, options), Moved(layer.o, options),
                        Moved(layer.gate_up, options),
                        Moved(layer.down, options)});
  }
  head_adapter_ = Moved(products.head(), options);
}

uint64_t TorchForward::page_bytes() const {
  const model::ModelConfig& c = model_->config();
  return static_cast<uint64_t>(2 * c.layers * c.kv_heads * c.head_dim *
                               kPageTokens) *
         c10::elementSize(model_->dtype());
}

uint64_t TorchForward::bytes_elsewhere() const {
  return static_cast<uint64_t>(slots_) * page_bytes();
}

void TorchForward::GrowPool(int64_t slots) {
  if (slots <= slots_) return;
  const model::ModelConfig& c = model_->config();
  // With a limit all of it at once: growing holds two pools for a moment.
  const int64_t wanted = page_limit_ > 0
                             ? std::max(slots, page_limit_)
                             : std::max({slots, 2 * slots_, kFirstSlots});
  // Zeros: what a mask leaves out must still be finite.
  for (at::Tensor* pool : {&keys_, &values_}) {
    at::Tensor larger = at::zeros(
        {c.layers, wanted * kPageTokens, c.kv_heads, c.head_dim}, Options());
    if (slots_ > 0) larger.narrow(1, 0, slots_ * kPageTokens).copy_(*pool);
    *pool = std::move(larger);
  }
  slots_ = wanted;
}

KvCache::CopyPage TorchForward::page_copier() {
  return [this](float* to, const float* from) {
    at::NoGradGuard no_grad;
    const int64_t target = KvCache::IndexOf(to);
    GrowPool(target + 1);
    for (const at::Tensor& pool : {keys_, values_}) {
      pool.narrow(1, target * kPageTokens, kPageTokens)
          .copy_(pool.narrow(1, KvCache::IndexOf(from) * kPageTokens,
                             kPageTokens));
    }
  };
}

TorchForward::AttentionGroup TorchForward::MakeGroup(
    const std::vector<InputToken>& tokens, const std::vector<int64_t>& rows,
    int64_t sequences) const {
  const auto queries = static_cast<int64_t>(rows.size()) / sequences;
  int64_t most = 0;
  std::vector<int64_t> positions;
  for (const int64_t row : rows) {
    positions.push_back(tokens[row].row.position);
    most = std::max(most, PagesFor(positions.back() + 1));
  }
  std::vector<int64_t> pages;
  for (int64_t s = 0; s < sequences; ++s) {
    const TokenRow& last = tokens[rows[(s + 1) * queries - 1]].row;
    const int64_t held = PagesFor(last.position + 1);
    for (int64_t i = 0; i < most; ++i) {
      // Padded with a page of its own: what others wrote is theirs.
      pages.push_back(KvCache::IndexOf(last.pages[i < held ? i : 0]));
    }
  }
  AttentionGroup group;
  group.rows = Indices(rows);
  group.pages = Indices(pages);
  group.sequences = sequences;
  const at::Tensor keys =
      at::arange(most * kPageTokens,
                 at::TensorOptions(at::kLong).device(model_->device()));
  group.mask = keys.le(Indices(positions).view({sequences, 1, queries, 1}));
  return group;
}

std::vector<TorchForward::AttentionGroup> TorchForward::PlanAttention(
    const std::vector<InputToken>& tokens) const {
  std::vector<AttentionGroup> groups;
  std::vector<int64_t> singles;
  const auto count = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < count;) {
    int64_t end = begin + 1;
    while (end < count && tokens[end].row.pages == tokens[begin].row.pages)
      ++end;
    std::vector<int64_t> rows;
    for (int64_t i = begin; i < end; ++i) rows.push_back(i);
    if (rows.size() == 1) {
      singles.push_back(begin);
    } else {
      groups.push_back(MakeGroup(tokens, rows, /*sequences=*/1));
    }
    begin = end;
  }
  if (!singles.empty()) {
    groups.push_back(
        MakeGroup(tokens, singles, static_cast<int64_t>(singles.size())));
  }
  return groups;
}

TorchForward::Pass TorchForward::PlanPass(
    const std::vector<InputToken>& tokens) {
  std::vector<int64_t> places;
  std::vector<int64_t> positions;
  std::vector<int64_t> begun;
  int64_t slots = 0;
  for (const InputToken& token : tokens) {
    const int64_t position = token.row.position;
    const int64_t slot =
        KvCache::IndexOf(token.row.pages[position / kPageTokens]);
    slots = std::max(slots, slot + 1);
    if (position % kPageTokens == 0) begun.push_back(slot);
    places.push_back(slot * kPageTokens + position % kPageTokens);
    positions.push_back(position);
  }
  GrowPool(slots);
  // A slot may have been used before, by a sample whose keys or values were not
  // finite; what the mask leaves out would spread.
  if (!begun.empty()) {
    const at::Tensor fresh = Indices(begun);
    for (const at::Tensor& pool : {keys_, values_}) {
      const auto& shape = pool.sizes();
      pool.view({shape[0], slots_, kPageTokens, shape[2], shape[3]})
          .index_fill_(1, fresh, 0);
    }
  }
  Pass pass;
  pass.places = Indices(places);
  pass.groups = PlanAttention(tokens);
  const at::Tensor angles =
      Indices(positions).to(at::kFloat).view({1, -1, 1}) *
      model::RotaryFrequencies(model_->config()).to(model_->device());
  pass.cos = angles.cos();
  pass.sin = angles.sin();
  return pass;
}

at::Tensor TorchForward::Inputs(const std::vector<InputToken>& tokens,
                                int64_t first_layer) const {
  const auto count = static_cast<int64_t>(tokens.size());
  if (first_layer == 0) {
    std::vector<int64_t> ids;
    for (const InputToken& token : tokens) ids.push_back(token.token);
    return model_->embedding().index_select(0, Indices(ids));
  }
  const int64_t width = model_->config().hidden_size;
  const at::Tensor host = at::empty({count, width}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(host.mutable_data_ptr<float>() + i * width, tokens[i].trunk,
                sizeof(float) * width);
  }
  return host.to(Options());
}

void TorchForward::KeepTrunk(const std::vector<InputToken>& tokens,
                             const at::Tensor& hidden) const {
  const int64_t width = model_->config().hidden_size;
  const at::Tensor host = hidden.to(at::kCPU, at::kFloat).contiguous();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].trunk == nullptr) continue;
    std::memcpy(tokens[i].trunk,
                host.const_data_ptr<float>() + static_cast<int64_t>(i) * width,
                sizeof(float) * width);
  }
}

at::Tensor TorchForward::Project(const at::Tensor& x, const at::Tensor& weight,
                                 const at::Tensor& bias,
                                 const ThinProduct& thin) const {
  at::Tensor out = at::linear(x, weight, bias);
  if (thin.down.defined()) out += at::linear(at::linear(x, thin.down), thin.up);
  return out;
}

at::Tensor TorchForward::Attend(int64_t index, const at::Tensor& q,
                                const Pass& pass) const {
  const model::ModelConfig& c = model_->config();
  at::Tensor out = at::empty_like(q);  // [rows, heads, head_dim]
  const auto gathered = [&](const at::Tensor& pool,
                            const AttentionGroup& group) {
    return pool.select(0, index)
        .view({slots_, kPageTokens, c.kv_heads, c.head_dim})
        .index_select(0, group.pages)
        .view({group.sequences, -1, c.kv_heads, c.head_dim})
        .transpose(1, 2);
  };
  for (const AttentionGroup& group : pass.groups) {
    const at::Tensor queries =
        q.index_select(0, group.rows)
            .view({group.sequences, -1, c.heads, c.head_dim})
            .transpose(1, 2);
    const at::Tensor attended = at::scaled_dot_product_attention(
        queries, gathered(keys_, group), gathered(values_, group), group.mask,
        /*dropout_p=*/0, /*is_causal=*/false, /*scale=*/std::nullopt,
        /*enable_gqa=*/c.heads != c.kv_heads);
    out.index_copy_(
        0, group.rows,
        attended.transpose(1, 2).reshape({-1, c.heads, c.head_dim}));
  }
  return out.flatten(1);
}

at::Tensor TorchForward::RunLayer(int64_t index, const at::Tensor& hidden,
                                  const Pass& pass) {
  const model::ModelConfig& c = model_->config();
  const model::LayerWeights& w = model_->layer(index);
  const LayerProducts adapter =
      adapter_.empty() ? LayerProducts{} : adapter_[index];
  const double eps = c.rms_norm_eps;
  const at::Tensor qkv = Project(model::RmsNorm(hidden, w.input_norm, eps),
                                 w.qkv, w.qkv_bias, adapter.qkv);
  const int64_t kv_size = c.kv_heads * c.head_dim;
  const auto parts = qkv.split_with_sizes({c.q_size(), kv_size, kv_size}, -1);
  const model::Rotary rotary{pass.cos, pass.sin};
  // [rows, heads, head_dim]
  const auto heads = [&](const at::Tensor& x, const at::Tensor& norm) {
    at::Tensor normed = x;
    if (norm.defined()) {
      normed = model::RmsNorm(x.unflatten(-1, {-1, c.head_dim}), norm, eps)
                   .flatten(-2);
    }
    return model::RotateHeads(normed.unsqueeze(0), c.head_dim, 1, &rotary)
        .squeeze(0)
        .transpose(0, 1);
  };
  keys_.select(0, index).index_copy_(0, pass.places, heads(parts[1], w.k_norm));
  values_.select(0, index).index_copy_(
      0, pass.places, parts[2].unflatten(-1, {-1, c.head_dim}));
  const at::Tensor attended =
      Attend(index, heads(parts[0], w.q_norm).contiguous(), pass);
  const at::Tensor middle = hidden + Project(attended, w.o, {}, adapter.o);
  const at::Tensor inner =
      model::SiluMul(Project(model::RmsNorm(middle, w.post_norm, eps),
                             w.gate_up, {}, adapter.gate_up));
  return middle + Project(inner, w.down, {}, adapter.down);
}

int TorchForward::Run(const std::vector<InputToken>& tokens,
                      int64_t first_layer, int64_t keep) {
  at::NoGradGuard no_grad;
  std::vector<int64_t> wanted;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].wanted) wanted.push_back(static_cast<int64_t>(i));
  }
  if (tokens.empty()) return 0;
  const model::ModelConfig& c = model_->config();
  const Pass pass = PlanPass(tokens);
  at::Tensor hidden = Inputs(tokens, first_layer);
  for (int64_t layer = first_layer; layer < c.layers; ++layer) {
    if (layer == keep && layer > 0) KeepTrunk(tokens, hidden);
    hidden = RunLayer(layer, hidden, pass);
  }
  if (!wanted.empty()) {
    normed_ = model::RmsNorm(hidden.index_select(0, Indices(wanted)),
                             model_->final_norm(), c.rms_norm_eps);
  }
  return static_cast<int>(wanted.size());
}

LogitRows TorchForward::Logits(int begin, int count) {
  at::NoGradGuard no_grad;
  logits_ = Project(normed_.narrow(0, begin, count), model_->head(), {},
                    head_adapter_)
                .to(at::kCPU, at::kFloat)
                .contiguous();
  return {logits_.const_data_ptr<float>(), logits_.size(1)};
}

}  // namespace mpo::generation
