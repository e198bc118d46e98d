// SPDX-License-Identifier: Apache-2.0
#include "mpo/model/attention_loops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mpo/model/attention_panels.h"
#include "mpo/tensor/fast_exp.h"
#include "mpo/tensor/parallel.h"
#include "mpo/tensor/tile.h"

namespace mpo::model {
namespace {

using tensor::FastExp;
using tensor::kTileColumns;
using tensor::kTileRows;
using tensor::kTileStep;
using tensor::PackRows;
using tensor::RoundUp;

// Queries whose probabilities and their gradients are kept at a time in the
// backward pass: a multiple of a tile's rows, columns and step.
constexpr int64_t kBlock = 96;

// One row of scores of a query to its probabilities, zeros for keys after it.
// Returns the logarithm of the denominator.
float Softmax(float scale, int64_t query, int64_t seen, float* x) {
  const int64_t keys = query + 1;
  float most = x[0];
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < keys; ++j) most = x[j] > most ? x[j] : most;
  most *= scale;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < keys; ++j) {
    x[j] = FastExp(x[j] * scale - most);
    sum += x[j];
  }
  const float factor = 1 / sum;
#pragma omp simd
  for (int64_t j = 0; j < keys; ++j) x[j] *= factor;
  std::fill(x + keys, x + seen, 0.0F);
  return most + std::log(sum);
}

// The forward pass, with memory for one sequence and head of k at a time.
class ForwardPass {
 public:
  explicit ForwardPass(const AttentionShape& s)
      : s_(s),
        scale_(1 / std::sqrt(static_cast<float>(s.head_dim))),
        keys_(s.length, s.head_dim),
        values_(s.length, s.head_dim),
        rows_(s.length),
        queries_(kTileRows * s.head_dim + 2) {}

  void KeysAndValues(const float* k, const float* v) {
    keys_.Fill(k, s_.length);
    values_.Fill(v, s_.head_dim, s_.length);
  }

  // q [length, head_dim]; out with rows `ld` apart.
  void Head(const float* q, float* out, int64_t ld, float* log_sums) {
    const int64_t dim = s_.head_dim;
    for (int64_t query = 0; query < s_.length; query += kTileRows) {
      const int64_t count = std::min<int64_t>(kTileRows, s_.length - query);
      const int64_t seen = Seen(query, s_.length);
      PackRows({q + query * dim, dim, false}, count, dim, dim, queries_.get());
      rows_.Score(queries_.get(), dim, keys_, seen);
      for (int64_t i = 0; i < count; ++i)
        log_sums[query + i] = Softmax(scale_, query + i, seen, rows_.row(i));
      const float* const probabilities = rows_.Packed(seen);
      for (int64_t d = 0; d < dim; d += kTileColumns) {
        Multiply(seen, probabilities, values_.panel(d), /*accumulate=*/false,
                 {out + query * ld + d, ld, count});
      }
    }
  }

 private:
  const AttentionShape s_;
  const float scale_;
  KeyPanels keys_;
  ValuePanels values_;
  ScoreRows rows_;
  tensor::PackedMemory queries_;
};

// Rows of queries of a block as tiles of six keys, [kBlock][6]: the transposed
// operand of products over the queries.
class ByKey {
 public:
  explicit ByKey(int64_t length)
      : memory_(RoundUp(RoundUp(length, kTileColumns), kTileRows) * kBlock) {}
  // Keys [0, seen) of the block's query `i`, and zeros for those up to `all`.
  void Store(int64_t i, const float* row, int64_t seen, int64_t all) {
    float* to = memory_.get() + i * kTileRows;
    int64_t key = 0;
    for (; key + kTileRows <= seen; key += kTileRows, to += kTile)
      std::memcpy(to, row + key, kTileRows * sizeof(float));
    for (; key < all; key += kTileRows, to += kTile) {
      for (int64_t j = 0; j < kTileRows; ++j)
        to[j] = key + j < seen ? row[key + j] : 0;
    }
  }
  const float* tile(int64_t key, int64_t query) {
    return memory_.get() + key / kTileRows * kTile + query * kTileRows;
  }

 private:
  static constexpr int64_t kTile = kBlock * kTileRows;
  tensor::PackedMemory memory_;
};

// The backward pass, with memory for one sequence and head of k at a time: the
// heads of q that look at it one after the other, each in blocks of queries.
class BackwardPass {
 public:
  explicit BackwardPass(const AttentionShape& s)
      : s_(s),
        scale_(1 / std::sqrt(static_cast<float>(s.head_dim))),
        keys_(s.length, s.head_dim),
        values_(s.length, s.head_dim),
        keys_plain_(s.length, s.head_dim),
        queries_plain_(kBlock, s.head_dim),
        grads_plain_(kBlock, s.head_dim),
        rows_(s.length),
        slopes_(s.length),
        queries_(kTileRows * s.head_dim + 2),
        grads_(kTileRows * s.head_dim + 2),
        by_key_(s.length),
        slopes_by_key_(s.length) {}

  // Gradients by k and v [length, head_dim] go to dk and dv.
  void KeysAndValues(const float* k, const float* v, float* dk, float* dv) {
    keys_.Fill(k, s_.length);
    values_.Fill(v, s_.length);
    keys_plain_.Fill(k, s_.head_dim, s_.length);
    dk_ = dk;
    dv_ = dv;
    std::fill(dk, dk + s_.length * s_.head_dim, 0.0F);
    std::fill(dv, dv + s_.length * s_.head_dim, 0.0F);
  }

  // q, dq [length, head_dim]; g with rows `ld` apart.
  void Head(const float* q, const float* log_sums, const float* g, int64_t ld,
            float* dq) {
    for (int64_t begin = 0; begin < s_.length; begin += kBlock) {
      const int64_t count = std::min(kBlock, s_.length - begin);
      // Whole steps of a product over the queries: those that are none are
      // zeros.
      for (int64_t i = 0; i < RoundUp(count, kTileStep); i += kTileRows)
        Queries(begin, i, q, log_sums, g, ld, dq);
      queries_plain_.Fill(q + begin * s_.head_dim, s_.head_dim, count);
      grads_plain_.Fill(g + begin * ld, ld, count);
      Keys(begin, count);
    }
  }

 private:
  // Six queries, from `i` of the block on: their probabilities and slopes, and
  // the gradient by them.
  void Queries(int64_t block, int64_t i, const float* q, const float* log_sums,
               const float* g, int64_t ld, float* dq) {
    const int64_t dim = s_.head_dim, query = block + i;
    const int64_t count = std::clamp<int64_t>(s_.length - query, 0, kTileRows);
    const int64_t seen = Seen(query, s_.length);
    // What a later query of the block sees.
    const int64_t all = Seen(block + kBlock - kTileRows, s_.length);
    if (count > 0) {
      PackRows({q + query * dim, dim, false}, count, dim, dim, queries_.get());
      PackRows({g + query * ld, ld, false}, count, dim, dim, grads_.get());
      rows_.Score(queries_.get(), dim, keys_, seen);
      slopes_.Score(grads_.get(), dim, values_, seen);
    }
    for (int64_t r = 0; r < kTileRows; ++r) {
      float* const p = rows_.row(r);
      float* const slope = slopes_.row(r);
      if (r < count) {
        Slopes(query + r, seen, log_sums[query + r], p, slope);
      } else {
        std::fill(p, p + seen, 0.0F);
        std::fill(slope, slope + seen, 0.0F);
      }
      by_key_.Store(i + r, p, seen, all);
      slopes_by_key_.Store(i + r, slope, seen, all);
    }
    if (count == 0) return;
    const float* const packed = slopes_.Packed(seen);
    for (int64_t d = 0; d < dim; d += kTileColumns) {
      Multiply(seen, packed, keys_plain_.panel(d), /*accumulate=*/false,
               {dq + query * dim + d, dim, count});
    }
  }

  // Scores to probabilities, and gradients by probabilities to gradients by
  // q k^T: p (d - sum(p d)) / sqrt(head_dim).
  void Slopes(int64_t query, int64_t seen, float log_sum, float* p,
              float* slope) const {
    const int64_t keys = query + 1;
    const float scale = scale_;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < keys; ++j) {
      p[j] = FastExp(p[j] * scale - log_sum);
      sum += p[j] * slope[j];
    }
#pragma omp simd
    for (int64_t j = 0; j < keys; ++j)
      slope[j] = p[j] * (slope[j] - sum) * scale;
    std::fill(p + keys, p + seen, 0.0F);
    std::fill(slope + keys, slope + seen, 0.0F);
  }

  // Adds what the block's queries give to the gradients by k and v.
  void Keys(int64_t block, int64_t count) {
    const int64_t dim = s_.head_dim, end = RoundUp(count, kTileStep);
    const int64_t seen = std::min(block + count, s_.length);
    for (int64_t key = 0; key < seen; key += kTileRows) {
      // The first query that sees the key, whole steps of the block before it.
      const int64_t from =
          std::max<int64_t>(0, key - block) / kTileStep * kTileStep;
      const int64_t rows = std::min<int64_t>(kTileRows, s_.length - key);
      for (int64_t d = 0; d < dim; d += kTileColumns) {
        Multiply(end - from, slopes_by_key_.tile(key, from),
                 queries_plain_.panel(d, from), /*accumulate=*/true,
                 {dk_ + key * dim + d, dim, rows});
        Multiply(end - from, by_key_.tile(key, from),
                 grads_plain_.panel(d, from), /*accumulate=*/true,
                 {dv_ + key * dim + d, dim, rows});
      }
    }
  }

  const AttentionShape s_;
  const float scale_;
  KeyPanels keys_, values_;
  ValuePanels keys_plain_, queries_plain_, grads_plain_;
  ScoreRows rows_, slopes_;
  tensor::PackedMemory queries_, grads_;
  ByKey by_key_, slopes_by_key_;
  float* dk_ = nullptr;
  float* dv_ = nullptr;
};

}  // namespace

bool HasAttentionLoops(const AttentionShape& s) {
  return tensor::HasTiles() && s.head_dim % kTileColumns == 0;
}

void AttentionLoop(const AttentionShape& s, const float* q, const float* k,
                   const float* v, float* out, float* log_sums, int threads) {
  const int64_t tasks = s.batch * s.kv_heads, group = s.heads / s.kv_heads;
  const int64_t floats = s.length * s.head_dim, ld = s.heads * s.head_dim;
  tensor::OnThreads(threads, [&](int thread) {
    ForwardPass forward(s);
    for (int64_t i = thread; i < tasks; i += threads) {
      forward.KeysAndValues(k + i * floats, v + i * floats);
      for (int64_t head = i * group; head < (i + 1) * group; ++head) {
        const int64_t sequence = head / s.heads;
        forward.Head(
            q + head * floats,
            out + sequence * s.length * ld + head % s.heads * s.head_dim, ld,
            log_sums + head * s.length);
      }
    }
  });
}

void AttentionBackwardLoop(const AttentionShape& s, const float* q,
                           const float* k, const float* v,
                           const float* log_sums, const float* g, float* dq,
                           float* dk, float* dv, int threads) {
  const int64_t tasks = s.batch * s.kv_heads, group = s.heads / s.kv_heads;
  const int64_t floats = s.length * s.head_dim, ld = s.heads * s.head_dim;
  tensor::OnThreads(threads, [&](int thread) {
    BackwardPass backward(s);
    for (int64_t i = thread; i < tasks; i += threads) {
      backward.KeysAndValues(k + i * floats, v + i * floats, dk + i * floats,
                             dv + i * floats);
      for (int64_t head = i * group; head < (i + 1) * group; ++head) {
        const int64_t sequence = head / s.heads;
        backward.Head(
            q + head * floats, log_sums + head * s.length,
            g + sequence * s.length * ld + head % s.heads * s.head_dim, ld,
            dq + head * floats);
      }
    }
  });
}

}  // namespace mpo::model
