// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

namespace mpo::tensor {

// e^x to 2 units in the last place for x in [-87, 88]; 0 below, clamped above.
// Without branches or library calls, so that loops over it become vector code.
inline float FastExp(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound =
      12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer.
  const float clamped = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
  const float n = (clamped * kLog2E + kRound) - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  // NaN goes on through p; it must not be turned into an integer.
  const float whole = n == n ? n : 0.0F;
  const auto exponent = static_cast<uint32_t>(static_cast<int32_t>(whole) + 127)
                        << 23;
  return x < -87.0F ? 0.0F : p * std::bit_cast<float>(exponent);
}

}  // namespace mpo::tensor
