// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

// Sixteen floats as one value, for the CPU loops: one register where there are
// such, else two of half the width (of a wider vector type the compiler would
// make memory). Only for files compiled by mpo_openmp_sources.
namespace mpo::generation {

inline constexpr int kLanes = 16;

#ifdef __AVX512F__
using Vector = float __attribute__((vector_size(64)));

inline Vector Load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

inline void Store(float* p, Vector v) { std::memcpy(p, &v, sizeof(v)); }
#else
using Half = float __attribute__((vector_size(32)));
struct Vector {
  Half low, high;
};

inline Vector operator+(Vector a, Vector b) {
  return {a.low + b.low, a.high + b.high};
}
inline Vector operator*(Vector a, Vector b) {
  return {a.low * b.low, a.high * b.high};
}
inline Vector operator*(float a, Vector b) { return {a * b.low, a * b.high}; }
inline Vector operator*(Vector a, float b) { return b * a; }
inline Vector& operator+=(Vector& a, Vector b) { return a = a + b; }

// Half by half: a copy of both at once would go through memory.
inline Vector Load(const float* p) {
  Vector v;
  std::memcpy(&v.low, p, sizeof(Half));
  std::memcpy(&v.high, p + kLanes / 2, sizeof(Half));
  return v;
}

inline void Store(float* p, Vector v) {
  std::memcpy(p, &v.low, sizeof(Half));
  std::memcpy(p + kLanes / 2, &v.high, sizeof(Half));
}
#endif

}  // namespace mpo::generation
