// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/ragged_forward.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>

#include "mpo/generation/small_product.h"
#include "mpo/model/decoder.h"
#include "mpo/tensor/products.h"

namespace mpo::generation {
namespace {

float* Floats(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

const float* FloatsOrNull(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

// A tensor of at least `floats`, kept where it is large enough.
void Grow(at::Tensor& buffer, int64_t floats) {
  if (!buffer.defined() || buffer.numel() < floats)
    buffer = at::empty({floats}, at::kFloat);
}

// Models up to this size stay in the cache that the cores share, so that every
// thread may read all weights.
constexpr int64_t kCachedWeights = int64_t{32} << 20;
// Widest input of a product whose 64 lanes still fit a core's own cache.
constexpr int64_t kCachedWidth = 2048;
// Columns of the head that one task computes.
constexpr int64_t kHeadColumns = 192;

}  // namespace

RaggedForward::RaggedForward(std::shared_ptr<const model::LanguageModel> model)
    : model_(std::move(model)) {
  const model::ModelConfig& c = model_->config();
  shape_ = {.heads = static_cast<int>(c.heads),
            .kv_heads = static_cast<int>(c.kv_heads),
            .head_dim = static_cast<int>(c.head_dim)};
}

void RaggedForward::SetAdapter(const model::LoraAdapter* adapter) {
  adapter_ = AdapterProducts(model_->config(), adapter);
}

void RaggedForward::Plan(int rows) {
  const model::ModelConfig& c = model_->config();
  const int threads = at::get_num_threads();
  const int most = SmallProductLanes();
  const int vectors = static_cast<int>(LanesFor(rows)) / kLanesPerVector;
  int lanes = vectors * kLanesPerVector;
  int slots = 1;
  threads_in_block_ = threads;
  if (most > 0 && c.intermediate_size <= kCachedWidth) {
    const int per_round = most / kLanesPerVector * threads;
    const int count = (vectors + per_round - 1) / per_round * threads;
    const int per_block = (vectors + count - 1) / count * kLanesPerVector;
    // Each block reads all weights, so it must be worth it.
    const bool cached =
        c.parameters() * static_cast<int64_t>(sizeof(float)) <= kCachedWeights;
    if (per_block == most || (cached && per_block > kLanesPerVector)) {
      lanes = per_block;
      slots = threads;
      threads_in_block_ = 1;
    }
  }
  blocks_.clear();
  for (int begin = 0; begin < rows; begin += lanes) {
    const int here = std::min(lanes, rows - begin);
    blocks_.push_back({begin, here, LanesOf(here)});
  }
  slot_floats_ = lanes * (PackedWidth() + WideWidth() + c.intermediate_size +
                          shape_.q_size() + adapter_.width());
  Grow(scratch_, slots * slot_floats_);
  Grow(hidden_, LanesFor(rows) * c.hidden_size);
  Grow(qkv_, int64_t{rows} * shape_.qkv_size());
}

int64_t RaggedForward::PackedWidth() const {
  return std::max<int64_t>(model_->config().hidden_size, shape_.q_size());
}

int64_t RaggedForward::WideWidth() const {
  const model::ModelConfig& c = model_->config();
  return std::max<int64_t>(
      {c.hidden_size, shape_.qkv_size(), 2 * c.intermediate_size});
}

// An odd number of cache lines: the same columns of all rows would else lie in
// a few sets of the caches.
int64_t RaggedForward::LogitStride() const {
  return (LanesFor(model_->config().vocab_size) / kLanesPerVector | 1) *
         kLanesPerVector;
}

RaggedForward::Scratch RaggedForward::ScratchOf(int slot, int lanes) const {
  float* at = Floats(scratch_) + slot * slot_floats_;
  auto next = [&](int64_t width) {
    float* begin = at;
    at += width * lanes;
    return begin;
  };
  Scratch scratch;
  scratch.packed = next(PackedWidth());
  scratch.wide = next(WideWidth());
  scratch.inner = next(model_->config().intermediate_size);
  scratch.attended = next(shape_.q_size());
  scratch.thin = next(adapter_.width());
  return scratch;
}

float* RaggedForward::Hidden(const Block& block) const {
  return Floats(hidden_) + block.begin * model_->config().hidden_size;
}

void RaggedForward::GrowAngles(int64_t positions) {
  if (positions <= positions_) return;
  const model::ModelConfig& c = model_->config();
  positions_ = std::min(c.context, std::max<int64_t>(256, 2 * positions));
  const at::Tensor angles = at::arange(positions_, at::kFloat).unsqueeze(1) *
                            model::RotaryFrequencies(c).unsqueeze(0);
  cos_ = angles.cos().contiguous();
  sin_ = angles.sin().contiguous();
}

void RaggedForward::Multiply(const float* input, Lanes lanes,
                             const at::Tensor& weight, bool accumulate,
                             float* out) const {
  const int64_t columns = weight.size(0);
  const int64_t depth = weight.size(1);
  if (lanes.count <= SmallProductLanes()) {
    SmallProduct(input, lanes.count, static_cast<int>(depth),
                 weight.const_data_ptr<float>(), static_cast<int>(columns),
                 accumulate, out, threads_in_block_);
    return;
  }
  const at::Tensor in = at::from_blob(const_cast<float*>(input),
                                      {depth, lanes.count}, at::kFloat);
  tensor::MultiplyInto(at::from_blob(out, {columns, lanes.count}, at::kFloat),
                       weight, in, 1, accumulate ? 1 : 0);
}

void RaggedForward::AddAdapter(const ThinProduct& thin, const float* input,
                               Lanes lanes, float* low, float* out) const {
  if (!thin.down.defined()) return;
  Multiply(input, lanes, thin.down, /*accumulate=*/false, low);
  Multiply(low, lanes, thin.up, /*accumulate=*/true, out);
}

void RaggedForward::Norm(const at::Tensor& weight, const Block& block,
                         float* out) const {
  const model::ModelConfig& c = model_->config();
  RmsNormLanes(Hidden(block), weight.const_data_ptr<float>(),
               static_cast<float>(c.rms_norm_eps), block.lanes,
               static_cast<int>(c.hidden_size), out, threads_in_block_);
}

void RaggedForward::BeginLayer(int64_t index, const Block& block,
                               const Scratch& scratch) {
  const model::LayerWeights& w = model_->layer(index);
  Norm(w.input_norm, block, scratch.packed);
  Multiply(scratch.packed, block.lanes, w.qkv, /*accumulate=*/false,
           scratch.wide);
  AddAdapter(adapter_.layer(index).qkv, scratch.packed, block.lanes,
             scratch.thin, scratch.wide);
  float* qkv = Floats(qkv_) + int64_t{block.begin} * shape_.qkv_size();
  LanesToRows(scratch.wide, block.lanes, block.rows, shape_.qkv_size(), qkv,
              shape_.qkv_size());
  RotateAndAppend(shape_, rows_.data() + block.begin, block.rows, qkv,
                  {.bias = FloatsOrNull(w.qkv_bias),
                   .q_norm = FloatsOrNull(w.q_norm),
                   .k_norm = FloatsOrNull(w.k_norm),
                   .eps = static_cast<float>(model_->config().rms_norm_eps)},
                  cos_.const_data_ptr<float>(), sin_.const_data_ptr<float>(),
                  index * shape_.page_floats(), threads_in_block_);
}

void RaggedForward::EndLayer(int64_t index, const Block& block,
                             const Scratch& scratch) {
  const model::LayerWeights& w = model_->layer(index);
  const LayerProducts& adapter = adapter_.layer(index);
  const Lanes lanes = block.lanes;
  float* hidden = Hidden(block);
  AttendRows(shape_, rows_.data() + block.begin, block.rows,
             Floats(qkv_) + int64_t{block.begin} * shape_.qkv_size(),
             index * shape_.page_floats(), scratch.attended, threads_in_block_);
  RowsToLanes(scratch.attended, block.rows, shape_.q_size(), lanes,
              scratch.packed);
  Multiply(scratch.packed, lanes, w.o, /*accumulate=*/true, hidden);
  AddAdapter(adapter.o, scratch.packed, lanes, scratch.thin, hidden);

  Norm(w.post_norm, block, scratch.packed);
  Multiply(scratch.packed, lanes, w.gate_up, /*accumulate=*/false,
           scratch.wide);
  AddAdapter(adapter.gate_up, scratch.packed, lanes, scratch.thin,
             scratch.wide);
  SiluMulLanes(scratch.wide, lanes,
               static_cast<int>(model_->config().intermediate_size),
               scratch.inner, threads_in_block_);
  Multiply(scratch.inner, lanes, w.down, /*accumulate=*/true, hidden);
  AddAdapter(adapter.down, scratch.inner, lanes, scratch.thin, hidden);
}

void RaggedForward::KeepTrunk(const std::vector<InputToken>& tokens,
                              const Block& block,
                              const Scratch& scratch) const {
  const int width = static_cast<int>(model_->config().hidden_size);
  LanesToRows(Hidden(block), block.lanes, block.rows, width, scratch.wide,
              width);
  for (int i = 0; i < block.rows; ++i) {
    float* trunk = tokens[block.begin + i].trunk;
    if (trunk != nullptr)
      std::memcpy(trunk, scratch.wide + int64_t{i} * width,
                  sizeof(float) * width);
  }
}

void RaggedForward::KeepWanted(const std::vector<int>& wanted) {
  const int64_t width = model_->config().hidden_size;
  const int64_t qkv_size = shape_.qkv_size();
  std::vector<float> kept(wanted.size() * width);
  float* qkv = Floats(qkv_);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int at = wanted[i];
    const Block& block = blocks_[at / blocks_[0].lanes.count];
    const float* lane =
        Hidden(block) + block.lanes.Offset(at - block.begin, width);
    for (int64_t d = 0; d < width; ++d)
      kept[i * width + d] = lane[d * block.lanes.panel];
    std::memmove(qkv + static_cast<int64_t>(i) * qkv_size, qkv + at * qkv_size,
                 sizeof(float) * qkv_size);
    rows_[i] = rows_[at];
  }
  rows_.resize(wanted.size());
  Plan(static_cast<int>(wanted.size()));
  for (const Block& block : blocks_) {
    RowsToLanes(kept.data() + block.begin * width, block.rows,
                static_cast<int>(width), block.lanes, Hidden(block));
  }
}

bool RaggedForward::BlocksApart() const {
  return std::all_of(blocks_.begin(), blocks_.end(), [&](const Block& block) {
    return block.begin == 0 ||
           rows_[block.begin].pages != rows_[block.begin - 1].pages;
  });
}

int RaggedForward::Run(const std::vector<InputToken>& tokens,
                       int64_t first_layer, int64_t keep) {
  at::NoGradGuard no_grad;
  const model::ModelConfig& c = model_->config();
  const int width = static_cast<int>(c.hidden_size);
  const float* table = model_->embedding().const_data_ptr<float>();
  std::vector<const float*> inputs;
  std::vector<int> wanted;
  int64_t positions = 0;
  rows_.clear();
  for (const InputToken& token : tokens) {
    if (token.wanted) wanted.push_back(static_cast<int>(rows_.size()));
    rows_.push_back(token.row);
    inputs.push_back(first_layer == 0 ? table + int64_t{token.token} * width
                                      : token.trunk);
    positions = std::max<int64_t>(positions, token.row.position + 1);
  }
  wanted_ = static_cast<int>(wanted.size());
  if (tokens.empty()) return 0;
  GrowAngles(positions);
  Plan(static_cast<int>(tokens.size()));
  Grow(normed_, int64_t{wanted_} * width);

  auto for_blocks = [&](auto task) {
    RunTasks(static_cast<int>(blocks_.size()), at::get_num_threads(),
             [&](int i, int slot) {
               const Block& block = blocks_[i];
               task(block, ScratchOf(slot, block.lanes.count));
             });
  };
  auto run_layer = [&](int64_t layer, const Block& block,
                       const Scratch& scratch) {
    if (layer == first_layer) {
      RowsToLanes(inputs.data() + block.begin, block.rows, width, block.lanes,
                  Hidden(block));
    } else {
      EndLayer(layer - 1, block, scratch);
    }
    if (layer == keep && layer > 0) KeepTrunk(tokens, block, scratch);
    BeginLayer(layer, block, scratch);
  };
  // Where no sequence lies in two blocks, each goes through all layers by
  // itself. Else the threads meet between layers, since attention reads what
  // other blocks have stored.
  const bool apart = BlocksApart();
  for (int64_t layer = first_layer; layer < c.layers && !apart; ++layer) {
    for_blocks([&](const Block& block, const Scratch& scratch) {
      run_layer(layer, block, scratch);
    });
  }
  auto finish = [&](const Block& block, const Scratch& scratch) {
    EndLayer(c.layers - 1, block, scratch);
    Norm(model_->final_norm(), block, scratch.packed);
    LanesToRows(scratch.packed, block.lanes, block.rows, width,
                Floats(normed_) + int64_t{block.begin} * width, width);
  };
  const bool all_wanted = wanted_ == static_cast<int>(tokens.size());
  if (apart) {
    for_blocks([&](const Block& block, const Scratch& scratch) {
      for (int64_t layer = first_layer; layer < c.layers; ++layer)
        run_layer(layer, block, scratch);
      if (all_wanted) finish(block, scratch);
    });
    if (all_wanted) return wanted_;
  }
  // After the last layer's keys and values nothing but the wanted rows matters.
  if (wanted_ == 0) return 0;
  if (!all_wanted) KeepWanted(wanted);
  for_blocks(finish);
  return wanted_;
}

void RaggedForward::HeadColumns(const Block& block, const float* input,
                                const float* low, int64_t column,
                                float* scratch) {
  const int64_t vocabulary = model_->config().vocab_size;
  const int columns =
      static_cast<int>(std::min(kHeadColumns, vocabulary - column));
  auto multiply = [&](const float* in, const at::Tensor& weight,
                      bool accumulate) {
    SmallProduct(in, block.lanes.count, static_cast<int>(weight.size(1)),
                 weight.const_data_ptr<float>() + column * weight.size(1),
                 columns, accumulate, scratch, /*threads=*/1);
  };
  // The logits were last used a step ago: fetched while they are computed.
  const int64_t stride = LogitStride();
  float* logits = Floats(logits_) + block.begin * stride + column;
  for (int i = 0; i < block.rows; ++i) {
    for (int j = 0; j < columns; j += kLanesPerVector)
      __builtin_prefetch(logits + i * stride + j, 0, 2);
  }
  multiply(input, model_->head(), false);
  if (low != nullptr) multiply(low, adapter_.head().up, true);
  LanesToRows(scratch, block.lanes, block.rows, columns, logits, stride);
}

LogitRows RaggedForward::Logits(int begin, int count) {
  at::NoGradGuard no_grad;
  const int64_t vocabulary = model_->config().vocab_size;
  const int64_t width = model_->config().hidden_size;
  const int64_t stride = LogitStride();
  Grow(logits_, count * stride);
  float* normed = Floats(normed_) + begin * width;
  const int most = SmallProductLanes();
  if (most == 0) {
    const at::Tensor rows = at::from_blob(normed, {count, width}, at::kFloat);
    at::Tensor out = at::from_blob(Floats(logits_), {count, vocabulary},
                                   {stride, 1}, at::kFloat);
    tensor::MultiplyInto(out, rows, model_->head().t());
    if (adapter_.head().down.defined())
      out.addmm_(rows.mm(adapter_.head().down.t()), adapter_.head().up.t());
    return {Floats(logits_), stride};
  }
  const int threads = at::get_num_threads();
  const bool adapted = adapter_.head().down.defined();
  const int rank = adapted ? static_cast<int>(adapter_.head().down.size(0)) : 0;
  Grow(head_in_, LanesFor(count) * (width + rank));
  Grow(scratch_, threads * kHeadColumns * most);
  float* low_begin = Floats(head_in_) + LanesFor(count) * width;
  std::vector<Block> blocks;
  for (int at = 0; at < count; at += most) {
    const int rows = std::min(most, count - at);
    const Block& block = blocks.emplace_back(Block{at, rows, LanesOf(rows)});
    float* input = Floats(head_in_) + at * width;
    RowsToLanes(normed + at * width, rows, static_cast<int>(width), block.lanes,
                input);
    if (adapted) {
      SmallProduct(input, block.lanes.count, static_cast<int>(width),
                   adapter_.head().down.const_data_ptr<float>(), rank,
                   /*accumulate=*/false, low_begin + int64_t{at} * rank,
                   threads);
    }
  }
  const int per_block =
      static_cast<int>((vocabulary + kHeadColumns - 1) / kHeadColumns);
  RunTasks(static_cast<int>(blocks.size()) * per_block, threads,
           [&](int i, int slot) {
             const Block& block = blocks[i % blocks.size()];
             HeadColumns(
                 block, Floats(head_in_) + block.begin * width,
                 adapted ? low_begin + int64_t{block.begin} * rank : nullptr,
                 static_cast<int64_t>(i / blocks.size()) * kHeadColumns,
                 Floats(scratch_) + slot * kHeadColumns * most);
           });
  return {Floats(logits_), stride};
}

}  // namespace mpo::generation
