// SPDX-License-Identifier: Apache-2.0
// Before Catch, whose CHECK is meant.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/generation/device_checks.h"

namespace mpo::generation {

TEST_CASE("the engine runs in half precision", "[generation]") {
  CheckEngineOn({.dtype = at::kBFloat16}, 0.3);  // 8 bits: 8 x as rough.
  CheckEngineOn({.dtype = at::kHalf}, 0.05);
}

TEST_CASE("weights of another dtype are refused", "[generation]") {
  auto engine = Engine::Create(SmallModel({}));
  REQUIRE(engine.ok());
  const absl::Status status =
      (*engine)->SetPolicy(SmallModel({.dtype = at::kBFloat16}), nullptr, 1);
  CHECK(absl::IsInvalidArgument(status));
  CHECK(std::string(status.message()).find("another dtype or device") !=
        std::string::npos);
}

}  // namespace mpo::generation
