// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mpo::rl {

// PopArt (van Hasselt et al. 2016, "Learning values across many orders of
// magnitude"): a value head predicts n = (V - mean) / deviation, so that its
// error keeps one scale while the rewards' scale moves, as it does when a
// rubric is refined. A plain value; saved with the head.
struct PopArt {
  int64_t updates = 0;
  double mean = 0;    // Of the returns, moving.
  double square = 1;  // Of their squares, moving.

  // sqrt(square - mean^2), within [1e-4, 1e6].
  double Deviation() const;
  bool operator==(const PopArt&) const = default;
};

// "Art": the statistics after a batch of returns [N]. Their weight is `rate`
// in (0, 1], or 1 / updates while that is larger, which makes the first
// updates plain averages. No returns change nothing.
PopArt UpdateStatistics(const PopArt& statistics, const at::Tensor& returns,
                        double rate);

// "Pop": changes a linear head in place so that, read under `to`, it predicts
// what it predicted under `from`:
//   w' = w s / s',  b' = (s b + m - m') / s'
void PreserveOutputs(at::Tensor weight, at::Tensor bias, const PopArt& from,
                     const PopArt& to);

// V = n deviation + mean, and back.
at::Tensor Denormalise(const at::Tensor& predictions, const PopArt& statistics);
at::Tensor NormaliseValues(const at::Tensor& values, const PopArt& statistics);

}  // namespace mpo::rl
