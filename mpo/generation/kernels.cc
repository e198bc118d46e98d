// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "mpo/generation/vector16.h"
#include "mpo/tensor/fast_exp.h"

namespace mpo::generation {
namespace {

using tensor::FastExp;

static_assert(kLanes == kPageTokens);

#ifdef __AVX512F__
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 8;  // Vectors in 16 registers of half the width.
#endif

const float* KeyBlock(const AttentionShape& s, const float* page,
                      int64_t layer_offset, int head) {
  return page + layer_offset +
         int64_t{head} * kPageTokens * (s.head_dim + s.padded_dim());
}

// scores[g][t] = scale * q[g] . k[t] for the 16 keys of one page. Decoding
// reads every page once a layer, so the time goes into waiting for memory: asks
// for the values of this page and the keys of the `next` one meanwhile, which
// are needed first and so go into the nearest cache.
template <int kHeads>
inline void ScorePage(const float* q, const float* keys, const float* next,
                      int dim, float scale, float* scores,
                      int64_t score_stride) {
  const float* values = keys + dim * kLanes;
  // Two chains of sums for each head hide the latency where registers allow.
  constexpr bool kTwo = 2 * kHeads + 2 < kRegisters;
  Vector even[kHeads] = {};
  Vector odd[kHeads] = {};
  for (int d = 0; d + 1 < dim; d += 2) {
    const Vector k0 = Load(keys + d * kLanes);
    const Vector k1 = Load(keys + (d + 1) * kLanes);
    __builtin_prefetch(next + d * kLanes);
    __builtin_prefetch(next + (d + 1) * kLanes);
    __builtin_prefetch(values + d * kLanes, 0, 2);
    __builtin_prefetch(values + (d + 1) * kLanes, 0, 2);
    for (int g = 0; g < kHeads; ++g) {
      even[g] += q[g * dim + d] * k0;
      (kTwo ? odd : even)[g] += q[g * dim + d + 1] * k1;
    }
  }
  for (int g = 0; g < kHeads; ++g)
    Store(scores + g * score_stride, (even[g] + odd[g]) * scale);
}

// out[g][0, 16 kWidth) = sum over t of weights[g][t] * v[t][0, 16 kWidth).
template <int kHeads, int kWidth>
inline void MixValues(const AttentionShape& s, const TokenRow& row,
                      int64_t value_offset, const float* weights,
                      int64_t stride, float* out, int out_stride) {
  Vector sum[kHeads][kWidth] = {};
  const int padded = s.padded_dim();
  for (int begin = 0; begin <= row.position; begin += kPageTokens) {
    const float* values = row.pages[begin / kPageTokens] + value_offset;
    const int count = std::min(kPageTokens, row.position + 1 - begin);
    const float* next =
        row.pages[std::min(begin + kPageTokens, row.position) / kPageTokens] +
        value_offset;
    for (int t = 0; t < count; ++t) {
      for (int w = 0; w < kWidth; ++w) {
        __builtin_prefetch(next + t * padded + w * kLanes);
        const Vector v = Load(values + t * padded + w * kLanes);
        for (int g = 0; g < kHeads; ++g)
          sum[g][w] += weights[g * stride + begin + t] * v;
      }
    }
  }
  for (int g = 0; g < kHeads; ++g) {
    for (int w = 0; w < kWidth; ++w)
      Store(out + g * out_stride + w * kLanes, sum[g][w]);
  }
}

template <int kHeads>
void MixAllValues(const AttentionShape& s, const TokenRow& row, int64_t offset,
                  const float* weights, int64_t stride, float* out,
                  int out_stride) {
  constexpr int kWidth =
      kHeads == 2 ? 2 : std::min(4, (kRegisters - 2) / kHeads);
  const int vectors = s.padded_dim() / kLanes;
  int w = 0;
  for (; w + kWidth <= vectors; w += kWidth) {
    MixValues<kHeads, kWidth>(s, row, offset + w * kLanes, weights, stride,
                              out + w * kLanes, out_stride);
  }
  for (; w < vectors; ++w) {
    MixValues<kHeads, 1>(s, row, offset + w * kLanes, weights, stride,
                         out + w * kLanes, out_stride);
  }
}

void Softmax(float* scores, int count) {
  float top = scores[0];
#pragma omp simd reduction(max : top)
  for (int t = 0; t < count; ++t) top = scores[t] > top ? scores[t] : top;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int t = 0; t < count; ++t) {
    scores[t] = FastExp(scores[t] - top);
    sum += scores[t];
  }
  const float inverse = 1.0F / sum;
#pragma omp simd
  for (int t = 0; t < count; ++t) scores[t] *= inverse;
}

// `kHeads` query heads that share one key-value head. `following`: the keys
// that are read after these.
template <int kHeads>
void AttendHeads(const AttentionShape& s, const TokenRow& row, int kv_head,
                 const float* q, int64_t layer_offset, const float* following,
                 float* out, std::vector<float>& scratch) {
  const int keys = row.position + 1;
  const int64_t stride = (keys + kPageTokens - 1) / kPageTokens * kPageTokens;
  const int padded = s.padded_dim();
  const auto needed = static_cast<size_t>(kHeads) * (stride + padded);
  if (scratch.size() < needed) scratch.resize(needed);
  float* scores = scratch.data();
  float* mixed = scores + kHeads * stride;
  const float scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  auto block = [&](int64_t page) {
    return KeyBlock(s, row.pages[page], layer_offset, kv_head);
  };
  const int64_t pages = stride / kPageTokens;
  for (int64_t page = 0; page < pages; ++page) {
    ScorePage<kHeads>(q, block(page),
                      page + 1 < pages ? block(page + 1) : following,
                      s.head_dim, scale, scores + page * kPageTokens, stride);
  }
  for (int g = 0; g < kHeads; ++g) Softmax(scores + g * stride, keys);
  const int64_t value_offset =
      layer_offset + int64_t{kv_head} * kPageTokens * (s.head_dim + padded) +
      int64_t{kPageTokens} * s.head_dim;
  MixAllValues<kHeads>(s, row, value_offset, scores, stride, mixed, padded);
  for (int g = 0; g < kHeads; ++g) {
    std::memcpy(out + g * s.head_dim, mixed + g * padded,
                sizeof(float) * s.head_dim);
  }
}

// out = in / rms(in) * weight; out may be in.
inline void NormRow(const float* in, const float* weight, float eps, int width,
                    float* out) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int j = 0; j < width; ++j) squares += in[j] * in[j];
  const float scale =
      1.0F / std::sqrt(squares / static_cast<float>(width) + eps);
#pragma omp simd
  for (int j = 0; j < width; ++j) out[j] = in[j] * scale * weight[j];
}

void RotateHead(float* head, const float* cos, const float* sin, int half) {
#pragma omp simd
  for (int i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[half + i];
    head[i] = a * cos[i] - b * sin[i];
    head[half + i] = b * cos[i] + a * sin[i];
  }
}

}  // namespace

void RotateAndAppend(const AttentionShape& s, const TokenRow* tokens, int rows,
                     float* qkv, const HeadInput& input, const float* cos,
                     const float* sin, int64_t layer_offset, int threads) {
  const int half = s.head_dim / 2;
  const int padded = s.padded_dim();
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int i = 0; i < rows; ++i) {
    float* row = qkv + int64_t{i} * s.qkv_size();
    if (input.bias != nullptr) {
      for (int j = 0; j < s.qkv_size(); ++j) row[j] += input.bias[j];
    }
    if (input.q_norm != nullptr) {
      for (int h = 0; h < s.heads; ++h)
        NormRow(row + h * s.head_dim, input.q_norm, input.eps, s.head_dim,
                row + h * s.head_dim);
      for (int h = s.heads; h < s.heads + s.kv_heads; ++h)
        NormRow(row + h * s.head_dim, input.k_norm, input.eps, s.head_dim,
                row + h * s.head_dim);
    }
    const int position = tokens[i].position;
    const float* c = cos + int64_t{position} * half;
    const float* sn = sin + int64_t{position} * half;
    for (int h = 0; h < s.heads + s.kv_heads; ++h)
      RotateHead(row + h * s.head_dim, c, sn, half);
    const int slot = position % kPageTokens;
    float* page = tokens[i].pages[position / kPageTokens] + layer_offset;
    for (int h = 0; h < s.kv_heads; ++h) {
      const float* k = row + s.q_size() + h * s.head_dim;
      const float* v = k + s.kv_size();
      float* keys = page + int64_t{h} * kPageTokens * (s.head_dim + padded);
      float* values =
          keys + int64_t{kPageTokens} * s.head_dim + int64_t{slot} * padded;
      for (int d = 0; d < s.head_dim; ++d) keys[d * kPageTokens + slot] = k[d];
      std::memcpy(values, v, sizeof(float) * s.head_dim);
      std::fill(values + s.head_dim, values + padded, 0.0F);
    }
  }
}

void AttendRows(const AttentionShape& s, const TokenRow* tokens, int rows,
                const float* qkv, int64_t layer_offset, float* out,
                int threads) {
  const int group = s.heads / s.kv_heads;
  const int tasks = rows * s.kv_heads;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    thread_local std::vector<float> scratch;
#pragma omp for schedule(dynamic, 4)
    for (int task = 0; task < tasks; ++task) {
      const int i = task / s.kv_heads;
      const int kv_head = task % s.kv_heads;
      const int next = std::min(task + 1, tasks - 1);
      const float* following = KeyBlock(s, tokens[next / s.kv_heads].pages[0],
                                        layer_offset, next % s.kv_heads);
      for (int g = 0; g < group;) {
        const int64_t column = int64_t{kv_head * group + g} * s.head_dim;
        const float* q = qkv + int64_t{i} * s.qkv_size() + column;
        float* o = out + int64_t{i} * s.q_size() + column;
        const int heads = std::min(4, group - g);
        if (heads == 4)
          AttendHeads<4>(s, tokens[i], kv_head, q, layer_offset, following, o,
                         scratch);
        if (heads == 3)
          AttendHeads<3>(s, tokens[i], kv_head, q, layer_offset, following, o,
                         scratch);
        if (heads == 2)
          AttendHeads<2>(s, tokens[i], kv_head, q, layer_offset, following, o,
                         scratch);
        if (heads == 1)
          AttendHeads<1>(s, tokens[i], kv_head, q, layer_offset, following, o,
                         scratch);
        g += heads;
      }
    }
  }
}

}  // namespace mpo::generation
