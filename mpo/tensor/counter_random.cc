// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/counter_random.h"

#include <torch/torch.h>

#include <cmath>

namespace mpo::tensor {

at::Tensor NormalTensor(at::IntArrayRef shape, double stddev, uint64_t seed,
                        uint64_t stream) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* out = tensor.mutable_data_ptr<float>();
  const int64_t size = tensor.numel();
  const uint64_t key = CounterBits(seed, stream);
  constexpr double kTwoPi = 6.283185307179586;
  for (int64_t i = 0; i < size; i += 2) {
    // Box-Muller; 1 - u keeps the logarithm finite.
    const double radius =
        stddev * std::sqrt(-2.0 * std::log(1.0 - CounterUniform(key, i)));
    const double angle = kTwoPi * CounterUniform(key, i + 1);
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < size) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return tensor;
}

}  // namespace mpo::tensor
