// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace mpo::rl {

// SoftmaxRows (softmax_rows.h) for tensors on a GPU: logits [rows, vocabulary]
// float32, bfloat16 or float16, contiguous; targets int64; logprobs, entropies
// and `sums` (or undefined) float32. On the current stream. Only in builds with
// MPO_WITH_CUDA. Throws c10::Error where the launch fails.
void SoftmaxRowsCuda(const at::Tensor& logits, const at::Tensor& targets,
                     const at::Tensor& logprobs, const at::Tensor& entropies,
                     const at::Tensor& sums);

}  // namespace mpo::rl
