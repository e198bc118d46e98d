// SPDX-License-Identifier: Apache-2.0
// Before Catch, whose CHECK is meant.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/model/placement.h"

namespace mpo::model {

TEST_CASE("placements are named as people name them", "[model]") {
  const auto half = ParsePlacement("bfloat16", "cpu");
  REQUIRE(half.ok());
  CHECK(half->dtype == at::kBFloat16);
  CHECK(half->device.is_cpu());
  CHECK(ParsePlacement("float16", "cpu")->dtype == at::kHalf);
  CHECK(ParsePlacement("float32", "cpu")->dtype == at::kFloat);
}

TEST_CASE("a placement that cannot be is refused", "[model]") {
  using Catch::Contains;
  const auto problem = [](const char* dtype, const char* device) {
    return ParsePlacement(dtype, device).status().ToString();
  };
  CHECK_THAT(problem("int8", "cpu"),
             Contains("INVALID_ARGUMENT") && Contains("\"int8\""));
  for (const char* device :
       {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:999", ""})
    CHECK_THAT(problem("float32", device), Contains("INVALID_ARGUMENT"));
  // More devices than any machine has.
  CHECK_THAT(problem("float32", "cuda:127"),
             Contains("FAILED_PRECONDITION") && Contains("CUDA devices"));
}

}  // namespace mpo::model
