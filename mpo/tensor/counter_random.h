// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mpo::tensor {

// 64 random bits as a pure function of seed and counter: two rounds of the
// SplitMix64 finaliser over a Weyl sequence. No state, so a draw never depends
// on other draws, on threads or on the machine.
constexpr uint64_t CounterBits(uint64_t seed, uint64_t counter) {
  auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  };
  return mix(mix(seed + 0x9e3779b97f4a7c15ULL) +
             (counter + 1) * 0x9e3779b97f4a7c15ULL);
}

// Uniform in [0, 1), 53 bits.
constexpr double CounterUniform(uint64_t seed, uint64_t counter) {
  return static_cast<double>(CounterBits(seed, counter) >> 11) * 0x1p-53;
}

// Float32 CPU tensor of independent normal draws of mean 0; element i of
// `stream` always gets the same value for a seed. Throws like LibTorch.
at::Tensor NormalTensor(at::IntArrayRef shape, double stddev, uint64_t seed,
                        uint64_t stream);

}  // namespace mpo::tensor
