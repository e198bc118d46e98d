// SPDX-License-Identifier: Apache-2.0
// Our side of bench/generation.sh. Loads a model and token prompts; then every
// line on stdin is a command, answered by one JSON line:
//   run         all prompts to --new-tokens, timed
//   tokens      the same, and the tokens of every response
//   continuous  every prompt to its own length of --lengths; a sample that is
//               done makes room for the next
//   static      the same lengths, one batch of --rows after the other, all rows
//               of a batch to the longest of it
//   shrinking   as static, but rows that are done leave their batch
//   logprobs    log-probs of every prompt's tokens but the first
//   cache       resident memory that a key-value cache of 8192 tokens takes
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/command_loop.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/generation/engine.h"
#include "mpo/generation/kv_cache.h"
#include "mpo/generation/ragged_forward.h"
#include "mpo/tensor/threads.h"
#include "nlohmann/json.hpp"

namespace mpo {
namespace {

using bench::SecondsSince;
using Json = nlohmann::json;
using generation::Engine;
using generation::GenerationRequest;

struct Options {
  std::string model;
  std::string prompts;
  std::string lengths;
  int threads = 2;
  int rows = 64;
  bool stop = false;
  SamplingOptions sampling{.temperature = 1.0, .max_new_tokens = 64};
};

struct Bench {
  Options options;
  std::shared_ptr<const model::LanguageModel> model;
  std::unique_ptr<Engine> engine;
  std::vector<GenerationRequest> requests;
  std::vector<int> lengths;
};

absl::StatusOr<Json> ReadList(const std::string& path, const char* expected) {
  MPO_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_array()) return json;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": expected ", expected));
}

absl::StatusOr<Bench> Load(const Options& options) {
  Bench bench;
  bench.options = options;
  MPO_ASSIGN_OR_RETURN(const Json prompts,
                       ReadList(options.prompts, "a list of token lists"));
  for (const auto& item : prompts) {
    bench.requests.push_back({.id = std::to_string(bench.requests.size()),
                              .prompt_tokens = item.get<std::vector<int32_t>>(),
                              .seed = bench.requests.size()});
  }
  if (!options.lengths.empty()) {
    MPO_ASSIGN_OR_RETURN(const Json lengths,
                         ReadList(options.lengths, "a list of lengths"));
    bench.lengths = lengths.get<std::vector<int>>();
    if (bench.lengths.size() != bench.requests.size())
      return absl::InvalidArgumentError("expected one length a prompt");
  }
  MPO_ASSIGN_OR_RETURN(bench.model, model::LanguageModel::Load(options.model));
  generation::EngineOptions engine_options;
  engine_options.max_rows = options.rows;
  if (!options.stop) engine_options.stop_tokens.emplace();
  MPO_ASSIGN_OR_RETURN(bench.engine,
                       Engine::Create(bench.model, engine_options));
  return bench;
}

absl::StatusOr<Json> RunAll(Bench& bench, bool with_tokens) {
  const auto start = std::chrono::steady_clock::now();
  MPO_ASSIGN_OR_RETURN(
      auto results,
      bench.engine->Generate(bench.requests, bench.options.sampling));
  const double seconds = SecondsSince(start);
  Json tokens = Json::array();
  for (const auto& result : results) {
    MPO_RETURN_IF_ERROR(result.status);
    if (with_tokens) tokens.push_back(result.tokens);
  }
  const auto& s = bench.engine->statistics();
  Json answer = {
      {"generated_tokens", s.generated_tokens},
      {"prompt_tokens", s.prompt_tokens},
      {"seconds", seconds},
      {"prefill_seconds", s.prefill_seconds},
      {"decode_seconds", s.decode_seconds},
      {"kv_bytes_per_token", s.kv_bytes_per_token},
      {"tokens_per_second", static_cast<double>(s.generated_tokens) / seconds}};
  if (with_tokens) answer["tokens"] = std::move(tokens);
  return answer;
}

// Every sample to its own length; `batch` samples at a time, `padded` to the
// longest of them. The digest covers each sample's tokens up to its length.
absl::StatusOr<Json> RunLengths(Bench& bench, size_t batch, bool padded) {
  if (bench.lengths.empty())
    return absl::InvalidArgumentError("expected --lengths");
  uint64_t digest = 14695981039346656037U;
  int64_t wanted = 0, run = 0, steps = 0;
  const auto start = std::chrono::steady_clock::now();
  for (size_t begin = 0; begin < bench.requests.size(); begin += batch) {
    const size_t end = std::min(bench.requests.size(), begin + batch);
    std::vector<GenerationRequest> part(bench.requests.begin() + begin,
                                        bench.requests.begin() + end);
    const int longest = *std::max_element(bench.lengths.begin() + begin,
                                          bench.lengths.begin() + end);
    for (size_t i = 0; i < part.size(); ++i) {
      part[i].sampling = bench.options.sampling;
      part[i].sampling->max_new_tokens =
          padded ? longest : bench.lengths[begin + i];
    }
    MPO_ASSIGN_OR_RETURN(auto results,
                         bench.engine->Generate(part, bench.options.sampling));
    for (size_t i = 0; i < results.size(); ++i) {
      MPO_RETURN_IF_ERROR(results[i].status);
      const int length = bench.lengths[begin + i];
      for (int t = 0; t < length; ++t) {
        digest = (digest ^ static_cast<uint64_t>(results[i].tokens[t])) *
                 1099511628211U;
      }
      wanted += length;
    }
    run += bench.engine->statistics().generated_tokens;
    steps += bench.engine->statistics().decode_steps;
  }
  return Json{{"seconds", SecondsSince(start)},
              {"wanted_tokens", wanted},
              {"run_tokens", run},
              {"decode_steps", steps},
              {"digest", std::to_string(digest)}};
}

absl::StatusOr<Json> LogProbs(Bench& bench) {
  std::vector<generation::ScoreRequest> requests;
  for (const GenerationRequest& request : bench.requests)
    requests.push_back({.id = request.id, .tokens = request.prompt_tokens});
  MPO_ASSIGN_OR_RETURN(const auto results, bench.engine->LogProbs(requests));
  Json rows = Json::array();
  for (const auto& result : results) {
    MPO_RETURN_IF_ERROR(result.status);
    rows.push_back(result.logprobs);
  }
  return Json{{"logprobs", std::move(rows)}};
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

absl::StatusOr<Json> MeasureCache(const Bench& bench) {
  constexpr int64_t kTokens = 8192;
  const generation::RaggedForward forward(bench.model);
  generation::KvCache cache(forward.page_floats(), /*max_pages=*/0);
  generation::PageTable table(cache);
  const int64_t before = ResidentBytes();
  if (!table.Reserve(kTokens))
    return absl::ResourceExhaustedError("the cache is full");
  for (int64_t i = 0; i < table.size(); ++i)
    std::memset(table.pages()[i], 1, cache.page_bytes());
  return Json{{"tokens", kTokens},
              {"resident_bytes", ResidentBytes() - before},
              {"allocated_bytes", cache.allocated_bytes()}};
}

absl::StatusOr<Json> Answer(Bench& bench, const std::string& command) {
  const auto rows = static_cast<size_t>(bench.options.rows);
  if (command == "run") return RunAll(bench, /*with_tokens=*/false);
  if (command == "tokens") return RunAll(bench, /*with_tokens=*/true);
  if (command == "continuous")
    return RunLengths(bench, bench.requests.size(), /*padded=*/false);
  if (command == "static") return RunLengths(bench, rows, /*padded=*/true);
  if (command == "shrinking") return RunLengths(bench, rows, /*padded=*/false);
  if (command == "logprobs") return LogProbs(bench);
  if (command == "cache") return MeasureCache(bench);
  return mpo::bench::UnknownCommand(command);
}

absl::Status Run(const Options& options) {
  tensor::SetThreads(options.threads);
  MPO_ASSIGN_OR_RETURN(Bench bench, Load(options));
  return mpo::bench::ServeCommands(
      [&](const std::string& command) { return Answer(bench, command); });
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
  app.add_option("--lengths", options.lengths,
                 "JSON list: tokens of each response, for continuous, static "
                 "and shrinking");
  app.add_option("--threads", options.threads);
  app.add_option("--rows", options.rows, "samples decoded together");
  app.add_option("--new-tokens", options.sampling.max_new_tokens);
  app.add_option("--temperature", options.sampling.temperature);
  app.add_flag("--stop", options.stop, "end responses at the model's tokens");
  return mpo::bench::Main(app, argc, argv, [&] { return mpo::Run(options); });
}
