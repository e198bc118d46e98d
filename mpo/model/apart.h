// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace mpo::model {

// What one part of a batch becomes: `input` are its rows.
using PartRun = std::function<at::Tensor(size_t part, const at::Tensor& input)>;

// run(i, rows [begins[i], begins[i + 1]) of `input`) for every part, joined
// along the first dimension. Each part has a thread of its own from its first
// operation to its last, which meet once in place of after every operation; so
// do the parts of the backward pass. `run` must be a pure function of its
// arguments and of `trained`, the other tensors that gradients shall reach.
// Gradients of `trained` are added in the order of the parts: the same bits for
// the same parts. The backward pass can run once. Grad mode is the caller's;
// LibTorch's exceptions pass through. Within an OpenMP region the parts run one
// after the other.
at::Tensor RunApart(const PartRun& run, const std::vector<int64_t>& begins,
                    const at::Tensor& input,
                    const std::vector<at::Tensor>& trained);

}  // namespace mpo::model
