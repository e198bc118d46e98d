// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define MPO_HOST_DEVICE __host__ __device__
#else
#define MPO_HOST_DEVICE
#endif

namespace mpo::rl {

// The softmax of a row of logits that is read once, in any order and in parts
// ("online softmax", Milakov and Gimelshein 2018, arXiv 1805.02867), with what
// the entropy needs. Plain functions for the CUDA kernel and for tests on the
// CPU. A NaN among the logits makes `sum` NaN.
struct SoftmaxState {
  float top = -INFINITY;  // Largest logit so far.
  float sum = 0;          // Of e^d, d = logit - top.
  float weighted = 0;     // Of d e^d.
};

// The state of both parts together. A part that has only logits of -inf adds
// nothing.
MPO_HOST_DEVICE inline SoftmaxState Merge(SoftmaxState a, SoftmaxState b) {
  if (a.top < b.top) {
    const SoftmaxState higher = b;
    b = a;
    a = higher;
  }
  if (b.sum == 0) return a;
  const float down = b.top - a.top;  // <= 0
  const float factor = expf(down);
  a.sum += b.sum * factor;
  // down x 0 is not a number where down is -inf.
  if (factor > 0) a.weighted += (b.weighted + down * b.sum) * factor;
  return a;
}

MPO_HOST_DEVICE inline SoftmaxState Add(SoftmaxState state, float logit) {
  if (logit == -INFINITY) return state;
  return Merge(state, {logit, logit == logit ? 1.0F : logit, 0});
}

// ln p of a logit of the row.
MPO_HOST_DEVICE inline float LogProb(const SoftmaxState& state, float logit) {
  return logit - state.top - logf(state.sum);
}

// Nats.
MPO_HOST_DEVICE inline float Entropy(const SoftmaxState& state) {
  return logf(state.sum) - state.weighted / state.sum;
}

}  // namespace mpo::rl
