// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace mpo::model {

// run(input), of which only the input is kept for the backward pass, where
// `run` is called once more (gradient checkpointing, Chen et al. 2016). `run`
// must be a pure function of its argument and of `trained`, the other tensors
// that gradients shall reach. Thread-safe as `run` is; LibTorch's exceptions
// pass through.
at::Tensor Recomputed(const std::function<at::Tensor(const at::Tensor&)>& run,
                      const at::Tensor& input,
                      const std::vector<at::Tensor>& trained);

}  // namespace mpo::model
