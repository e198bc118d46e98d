// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mpo::rl {

// Mean and spread of everything seen so far, in double precision. A plain
// value: what continues a run must be saved with it.
struct Moments {
  int64_t count = 0;
  double mean = 0;
  double squares = 0;  // Sum of squared deviations from the mean.

  // Standard deviation with Bessel's correction; 0 for fewer than two.
  double Deviation() const;
  bool operator==(const Moments&) const = default;
};

// The moments of both sets (Chan, Golub & LeVeque 1983). `values` 1-D, float;
// the same for every split of the same values, up to rounding. No gradient.
Moments Merge(const Moments& moments, const at::Tensor& values);

// (x - mean) / (deviation + 1e-8); 0 while nothing differs yet.
at::Tensor Normalise(const at::Tensor& x, const Moments& moments);

}  // namespace mpo::rl
