// SPDX-License-Identifier: Apache-2.0
// Needs a CUDA device and a build with MPO_WITH_CUDA; skips without.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "services/policy_learner/placement_checks.h"

namespace mpo::policy_learner {
namespace {

TEST_CASE("An update on a GPU is nearly that on the CPU", "[gpu]") {
  if (!torch::cuda::is_available()) {
    WARN("skipped: no CUDA device");
    return;
  }
  const at::ScalarType dtype = GENERATE(at::kFloat, at::kBFloat16);
  CheckNearlyEqual(KindOfWeights(),
                   {.dtype = dtype, .device = at::Device(at::kCUDA, 0)});
}

}  // namespace
}  // namespace mpo::policy_learner
