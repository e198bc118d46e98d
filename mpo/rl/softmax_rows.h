// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace mpo::rl {

// For each row l of `logits` [rows, vocabulary], float32: logprobs[row] =
// ln p(targets[row]) and entropies[row] in nats under p = softmax(l). With
// `sums` not null, e^(l - max l) is left in place of the row and its sum in
// sums[row]: p is their quotient. Rows are split over `threads` OpenMP threads;
// the same bits for any number of them. NaN in a row gives NaN for that row.
void SoftmaxRows(float* logits, int64_t rows, int64_t vocabulary,
                 const int64_t* targets, float* logprobs, float* entropies,
                 float* sums, int threads);

}  // namespace mpo::rl
