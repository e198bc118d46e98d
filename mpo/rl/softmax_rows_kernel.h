// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace mpo::rl {

enum class LogitType { kFloat32, kBfloat16, kFloat16 };

// SoftmaxRows (softmax_rows.h) on a GPU: all pointers are device memory, the
// logits of `type`, everything else float32 and int64. One block a row, which
// reads it once for the statistics and, with `sums` not null, once more to
// leave e^(l - max l) in place of it. Asynchronous on `stream`, a cudaStream_t;
// returns what is wrong with the launch, null = nothing.
const char* LaunchSoftmaxRows(LogitType type, void* logits, int64_t rows,
                              int64_t vocabulary, const int64_t* targets,
                              float* logprobs, float* entropies, float* sums,
                              void* stream);

}  // namespace mpo::rl
