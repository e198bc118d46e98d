// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

// Sixteen floats as one value, for the CPU loops; the compiler splits them
// where the instruction set has narrower registers. Only for files compiled by
// mpo_openmp_sources.
namespace mpo::generation {

using Vector = float __attribute__((vector_size(64)));
inline constexpr int kLanes = 16;

inline Vector Load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

inline void Store(float* p, Vector v) { std::memcpy(p, &v, sizeof(v)); }

}  // namespace mpo::generation
