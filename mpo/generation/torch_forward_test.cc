// SPDX-License-Identifier: Apache-2.0
// Before Catch, whose CHECK is meant.
#include <torch/torch.h>

#include <catch2/catch.hpp>

#include "mpo/generation/device_checks.h"

namespace mpo::generation {

TEST_CASE("the engine runs in half precision", "[generation]") {
  CheckEngineOn({.dtype = at::kBFloat16}, 0.4);  // 8 bits: 8 x as rough.
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

TEST_CASE("a trunk kept in half precision gives the base's log-probs again",
          "[generation]") {
  const auto model = SmallModel({.dtype = at::kBFloat16});
  auto engine = Engine::Create(model, {.stop_tokens = std::vector<int32_t>{}});
  REQUIRE(engine.ok());
  std::vector<GenerationRequest> requests = SomeRequests();
  for (GenerationRequest& request : requests) request.keep_trunk = 2;
  const auto made =
      (*engine)->Generate(requests, {.temperature = 1, .max_new_tokens = 12});
  REQUIRE(made.ok());
  std::vector<ScoreRequest> from_trunk, from_tokens;
  for (size_t i = 0; i < made->size(); ++i) {
    ScoreRequest score{.id = requests[i].id,
                       .tokens = requests[i].prompt_tokens};
    score.tokens.insert(score.tokens.end(), (*made)[i].tokens.begin(),
                        (*made)[i].tokens.end());
    from_tokens.push_back(score);
    score.trunk = (*made)[i].trunk;
    from_trunk.push_back(score);
  }
  const auto a = (*engine)->LogProbs(from_tokens);
  const auto b = (*engine)->LogProbs(from_trunk);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  for (size_t i = 0; i < a->size(); ++i) {
    REQUIRE((*a)[i].status.ok());
    REQUIRE((*b)[i].status.ok());
    CHECK(at::allclose(at::tensor((*a)[i].logprobs),
                       at::tensor((*b)[i].logprobs), 0, 0.1));
  }
}

}  // namespace mpo::generation
