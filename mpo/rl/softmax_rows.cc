// SPDX-License-Identifier: Apache-2.0
#include "mpo/rl/softmax_rows.h"

#include <cmath>

#include "mpo/tensor/fast_exp.h"

namespace mpo::rl {
namespace {

struct Moments {
  float sum = 0;       // Of e^d.
  float weighted = 0;  // Of d e^d.
};

// d = l - max; a row is read from the cache the second time.
template <bool kKeep>
Moments ExpRow(float* row, int64_t size, float top) {
  float sum = 0;
  float weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
  for (int64_t i = 0; i < size; ++i) {
    const float d = row[i] - top;
    const float e = tensor::FastExp(d);
    // Below the bound e is 0, and 0 x -inf is not a number.
    const float bounded = d < -88.0F ? -88.0F : d;
    sum += e;
    weighted += e * bounded;
    if (kKeep) row[i] = e;
  }
  return {sum, weighted};
}

}  // namespace

void SoftmaxRows(float* logits, int64_t rows, int64_t vocabulary,
                 const int64_t* targets, float* logprobs, float* entropies,
                 float* sums, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    float* row = logits + i * vocabulary;
    float top = row[0];
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < vocabulary; ++j) top = row[j] > top ? row[j] : top;
    const float chosen = row[targets[i]];
    const Moments m = sums == nullptr ? ExpRow<false>(row, vocabulary, top)
                                      : ExpRow<true>(row, vocabulary, top);
    const float log_sum = std::log(m.sum);
    logprobs[i] = chosen - top - log_sum;
    entropies[i] = log_sum - m.weighted / m.sum;
    if (sums != nullptr) sums[i] = m.sum;
  }
}

}  // namespace mpo::rl
