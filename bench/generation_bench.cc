// SPDX-License-Identifier: Apache-2.0
// Our side of bench/generation.sh. Loads a model and token prompts; then every
// line on stdin starts one timed generation, answered by one JSON line.
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/generation/engine.h"
#include "mpo/tensor/threads.h"
#include "nlohmann/json.hpp"

namespace mpo {
namespace {

struct Options {
  std::string model;
  std::string prompts;
  int threads = 2;
  int rows = 64;
  SamplingOptions sampling{.temperature = 1.0, .max_new_tokens = 64};
};

absl::StatusOr<std::vector<generation::GenerationRequest>> ReadPrompts(
    const std::string& path) {
  MPO_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array())
    return absl::InvalidArgumentError("prompts: expected a list of lists");
  std::vector<generation::GenerationRequest> requests;
  for (const auto& item : json) {
    requests.push_back({.id = std::to_string(requests.size()),
                        .prompt_tokens = item.get<std::vector<int32_t>>(),
                        .seed = requests.size()});
  }
  return requests;
}

absl::Status Run(const Options& options) {
  tensor::SetThreads(options.threads);
  MPO_ASSIGN_OR_RETURN(auto requests, ReadPrompts(options.prompts));
  MPO_ASSIGN_OR_RETURN(auto model, model::LanguageModel::Load(options.model));
  generation::EngineOptions engine_options;
  engine_options.max_rows = options.rows;
  engine_options.stop_tokens.emplace();
  MPO_ASSIGN_OR_RETURN(auto engine,
                       generation::Engine::Create(model, engine_options));
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto start = std::chrono::steady_clock::now();
    MPO_ASSIGN_OR_RETURN(auto results,
                         engine->Generate(requests, options.sampling));
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    for (const auto& result : results) MPO_RETURN_IF_ERROR(result.status);
    const auto& s = engine->statistics();
    const double rate =
        static_cast<double>(s.generated_tokens) / seconds.count();
    const nlohmann::json answer = {{"generated_tokens", s.generated_tokens},
                                   {"prompt_tokens", s.prompt_tokens},
                                   {"seconds", seconds.count()},
                                   {"prefill_seconds", s.prefill_seconds},
                                   {"decode_seconds", s.decode_seconds},
                                   {"tokens_per_second", rate}};
    std::cout << answer.dump() << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace mpo

int main(int argc, char** argv) {
  mpo::Options options;
  CLI::App app("Times batched generation; see bench/generation.sh");
  app.add_option("--model", options.model, "Hugging Face directory")
      ->required();
  app.add_option("--prompts", options.prompts, "JSON list of token lists")
      ->required();
  app.add_option("--threads", options.threads);
  app.add_option("--rows", options.rows, "samples decoded together");
  app.add_option("--new-tokens", options.sampling.max_new_tokens);
  app.add_option("--temperature", options.sampling.temperature);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = mpo::Run(options);
  if (!status.ok()) std::cerr << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}
