// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct against transformers; the fixture and its versions are
// made by tools/make_parity_fixtures.py.
#include <catch2/catch.hpp>
#include <filesystem>

#include "mpo/base/file.h"
#include "mpo/generation/engine.h"
#include "mpo/tensor/threads.h"
#include "nlohmann/json.hpp"

namespace mpo::generation {
namespace {

const std::filesystem::path kModel = std::filesystem::path(MPO_SOURCE_DIR) /
                                     ".deps/models/smollm2-135m-instruct";

nlohmann::json Fixture() {
  const auto path = std::filesystem::path(MPO_SOURCE_DIR) /
                    "mpo/generation/testdata/greedy_smollm2.json";
  return nlohmann::json::parse(*ReadFile(path));
}

TEST_CASE("greedy decoding of SmolLM2 equals transformers but for ties",
          "[generation][model]") {
  INFO("the model is made by ./quickstart.sh --build-only or ./test.sh");
  REQUIRE(std::filesystem::exists(kModel / "model.safetensors"));
  tensor::SetThreads(2);
  auto model = model::LanguageModel::Load(kModel);
  REQUIRE(model.ok());
  auto engine = Engine::Create(*model);
  REQUIRE(engine.ok());
  const nlohmann::json fixture = Fixture();
  std::vector<GenerationRequest> requests;
  for (const auto& item : fixture["cases"]) {
    requests.push_back(
        {.id = std::to_string(requests.size()),
         .prompt_tokens = item["prompt"].get<std::vector<int32_t>>()});
  }
  REQUIRE(requests.size() == 50);
  const SamplingOptions greedy{.temperature = 0,
                               .max_new_tokens = fixture["max_new_tokens"]};
  auto results = (*engine)->Generate(requests, greedy);
  REQUIRE(results.ok());
  int identical = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto expected =
        fixture["cases"][i]["tokens"].get<std::vector<int32_t>>();
    const auto gaps = fixture["cases"][i]["gaps"].get<std::vector<double>>();
    const auto& found = (*results)[i].tokens;
    size_t at = 0;
    while (at < expected.size() && at < found.size() &&
           expected[at] == found[at])
      ++at;
    if (at == expected.size() && at == found.size()) {
      ++identical;
      continue;
    }
    INFO("prompt " << i << " differs at token " << at);
    REQUIRE(at < gaps.size());
    CHECK(gaps[at] < 1e-3);
  }
  INFO(identical << " of 50 identical");
  CHECK(identical >= 48);
}

}  // namespace
}  // namespace mpo::generation
