// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

// Activations with the tokens side by side: a matrix, float32, where each token
// is one lane, so that norms, SiLU and matrix products are vector code over
// tokens. Lanes are a multiple of 16; those beyond the last token hold finite
// values that nothing reads. Matrices are aligned to 64 bytes. Every function
// gives the same bits for any number of threads.
namespace mpo::generation {

inline constexpr int kLanesPerVector = 16;

// Lanes that hold `rows` tokens.
inline int64_t LanesFor(int64_t rows) {
  return (rows + kLanesPerVector - 1) / kLanesPerVector * kLanesPerVector;
}

// How the lanes of a matrix lie: in panels, [count / panel][width][panel].
// Panels of sixteen fill a core's first cache evenly; general matrix products
// want one panel of all lanes.
struct Lanes {
  int count = 0;  // A multiple of `panel`.
  int panel = kLanesPerVector;

  // Of the first value of lane `lane` in a matrix of `width`; the next one lies
  // `panel` floats on.
  int64_t Offset(int lane, int64_t width) const {
    return lane / panel * width * panel + lane % panel;
  }
};

// Calls task(index, slot) for every index below `count`, spread over `threads`
// OpenMP threads; slot < threads names the calling one. Tasks must not throw.
void RunTasks(int count, int threads,
              absl::FunctionRef<void(int index, int slot)> task);

// Lane i of `out` = rows[i] for i < count; 0 in the lanes beyond.
void RowsToLanes(const float* const* rows, int count, int width, Lanes lanes,
                 float* out);

// The same for the rows of a matrix [count, width].
void RowsToLanes(const float* rows, int count, int width, Lanes lanes,
                 float* out);

// rows[i] = lane i of `in` for i < count; row i begins at rows + i * stride.
void LanesToRows(const float* in, Lanes lanes, int count, int width,
                 float* rows, int64_t stride);

// out = x / rms(x) * weight, per lane.
void RmsNormLanes(const float* x, const float* weight, float eps, Lanes lanes,
                  int width, float* out, int threads);

// out = silu(gate) * up for a matrix of gate, then up, `width` each.
void SiluMulLanes(const float* gate_up, Lanes lanes, int width, float* out,
                  int threads);

}  // namespace mpo::generation
