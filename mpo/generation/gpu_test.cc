// SPDX-License-Identifier: Apache-2.0
// Needs a CUDA device and a build with MPO_WITH_CUDA; skips without.
// Before Catch, whose CHECK is meant.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/generation/device_checks.h"

namespace mpo::generation {
namespace {

bool HasGpu() {
  if (at::hasCUDA()) return true;
  WARN("skipped: no CUDA device");
  return false;
}

}  // namespace

TEST_CASE("the engine runs on a GPU in every dtype", "[generation][gpu]") {
  if (!HasGpu()) return;
  CheckEngineOn({.dtype = at::kFloat, .device = at::kCUDA}, 1e-3);
  CheckEngineOn({.dtype = at::kBFloat16, .device = at::kCUDA}, 0.3);
  CheckEngineOn({.dtype = at::kHalf, .device = at::kCUDA}, 0.05);
}

}  // namespace mpo::generation
