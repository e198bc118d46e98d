// SPDX-License-Identifier: Apache-2.0
// Our side of bench/learner.sh. Loads a model; then every line on stdin is a
// command, answered by one JSON line:
//   step     responses to --rows random prompts, and an update from them
//   update   the update alone, from random responses; with --trunks from
//            generated ones, the activations below the adapters with them
//   matrix   seconds that the matrix products of an update take by themselves,
//            each into a buffer that is there already
//   memory   peak resident memory of the process so far
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/command_loop.h"
#include "mpo/base/clock.h"
#include "mpo/base/status_macros.h"
#include "mpo/generation/engine.h"
#include "mpo/tensor/counter_random.h"
#include "mpo/tensor/memory.h"
#include "mpo/tensor/products.h"
#include "mpo/tensor/threads.h"
#include "nlohmann/json.hpp"
#include "services/policy_learner/policy_trainer.h"

namespace mpo {
namespace {

using bench::SecondsSince;
using Json = nlohmann::json;
using policy_learner::Algorithm;
using policy_learner::PolicyTrainer;
using policy_learner::TrainerOptions;
using policy_learner::TrainingSample;

struct Options {
  std::string model;
  std::string algorithm = "ppo";
  int threads = 2;
  int64_t rows = 64;
  int64_t replicas = 1;
  int prompt = 64;
  int new_tokens = 64;
  int64_t lora_rank = 0;
  int64_t lora_layers = 0;
  bool trunks = false;
  bool recompute = false;
  bool bfloat16 = false;
  int64_t micro_batch_tokens = TrainerOptions().micro_batch_tokens;
};

struct Bench {
  Options options;
  std::shared_ptr<const model::LanguageModel> model;
  std::unique_ptr<PolicyTrainer> trainer;
  std::unique_ptr<generation::Engine> engine;
  int64_t step = 0;
};

// The settings of TRL's PPOTrainer in bench/learner.py, or one pass of the
// clipped loss with the KL in it over an adapter.
absl::StatusOr<TrainerOptions> MakeTrainerOptions(const Options& options) {
  TrainerOptions o;
  o.total_steps = 1000;
  o.micro_batch_tokens = options.micro_batch_tokens;
  if (options.recompute) o.activations = model::Activations::kRecomputed;
  if (options.bfloat16) o.placement.dtype = at::kBFloat16;
  if (options.algorithm == "ppo") {
    o.algorithm = Algorithm::kPpo;
    o.value_model = policy_learner::ValueModelKind::kSeparate;
  } else if (options.algorithm == "reinforce_pp") {
    o.algorithm = Algorithm::kReinforcePlusPlus;
    o.epochs = 1;
    o.kl_in = policy_learner::KlPlace::kLoss;
    o.kl_estimator = rl::KlEstimator::kK3;
    o.max_grad_norm = 1;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("--algorithm: expected ppo or reinforce_pp, found '",
                     options.algorithm, "'"));
  }
  if (options.lora_rank > 0) {
    o.lora = model::LoraConfig{.rank = options.lora_rank,
                               .alpha = 2.0 * options.lora_rank,
                               .layers = options.lora_layers};
  }
  return o;
}

absl::StatusOr<Bench> Load(const Options& options) {
  Bench bench;
  bench.options = options;
  MPO_ASSIGN_OR_RETURN(const TrainerOptions o, MakeTrainerOptions(options));
  MPO_ASSIGN_OR_RETURN(bench.model, model::LanguageModel::Load(options.model));
  MPO_ASSIGN_OR_RETURN(bench.trainer,
                       PolicyTrainer::Create(bench.model, o, Clock::Real()));
  generation::EngineOptions engine_options;
  engine_options.max_rows = static_cast<int>(options.rows);
  engine_options.stop_tokens.emplace();
  MPO_ASSIGN_OR_RETURN(bench.engine,
                       generation::Engine::Create(bench.model, engine_options));
  return bench;
}

std::vector<int32_t> RandomTokens(const Bench& bench, uint64_t stream,
                                  int count) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) {
    const uint64_t bits = tensor::CounterBits(stream, i);
    tokens.push_back(static_cast<int32_t>(
        3 + bits % (bench.model->config().vocab_size - 3)));
  }
  return tokens;
}

// Samples of `replicas` a prompt, scored at random, responses still to come.
std::vector<TrainingSample> MakeSamples(const Bench& bench) {
  std::vector<TrainingSample> samples(bench.options.rows);
  for (size_t i = 0; i < samples.size(); ++i) {
    const uint64_t stream = bench.step * samples.size() + i;
    Rollout& r = samples[i].rollout;
    r.sample_key = std::to_string(i);
    const uint64_t prompt = stream / bench.options.replicas;
    r.group = std::to_string(prompt);
    r.prompt_tokens = RandomTokens(bench, 2 * prompt, bench.options.prompt);
    samples[i].verdict.scored = true;
    samples[i].verdict.raw = samples[i].verdict.reward =
        tensor::CounterUniform(stream, 1 << 20);
  }
  return samples;
}

absl::Status Respond(Bench& bench, std::vector<TrainingSample>& samples) {
  MPO_RETURN_IF_ERROR(bench.engine->SetPolicy(
      std::shared_ptr<const model::LanguageModel>(
          &bench.trainer->model().policy(), [](const auto*) {}),
      nullptr, bench.step));
  std::vector<generation::GenerationRequest> requests;
  for (const TrainingSample& sample : samples) {
    requests.push_back(
        {.id = sample.rollout.sample_key,
         .prompt_tokens = sample.rollout.prompt_tokens,
         .seed = requests.size(),
         .keep_trunk =
             bench.options.trunks ? bench.trainer->model().trunk_layers() : 0});
  }
  MPO_ASSIGN_OR_RETURN(
      auto results,
      bench.engine->Generate(
          requests,
          {.temperature = 1.0, .max_new_tokens = bench.options.new_tokens},
          bench.trainer->model().adapter()));
  for (size_t i = 0; i < results.size(); ++i) {
    MPO_RETURN_IF_ERROR(results[i].status);
    samples[i].rollout.response_tokens = std::move(results[i].tokens);
    samples[i].rollout.logprobs = std::move(results[i].logprobs);
    samples[i].trunk = std::move(results[i].trunk);
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> Train(Bench& bench, bool generate) {
  ++bench.step;
  std::vector<TrainingSample> samples = MakeSamples(bench);
  auto start = std::chrono::steady_clock::now();
  if (generate || bench.options.trunks) {
    MPO_RETURN_IF_ERROR(Respond(bench, samples));
    if (!generate) start = std::chrono::steady_clock::now();
  } else {
    for (size_t i = 0; i < samples.size(); ++i) {
      Rollout& r = samples[i].rollout;
      r.response_tokens =
          RandomTokens(bench, 2 * i + 1, bench.options.new_tokens);
      r.logprobs.assign(r.response_tokens.size(), -1);
    }
  }
  const double generation = SecondsSince(start);
  MPO_ASSIGN_OR_RETURN(const auto result,
                       bench.trainer->Train(bench.step, samples));
  const double seconds = SecondsSince(start);
  if (result.metrics.at("nonfinite") > 0)
    return absl::InternalError("the update was skipped as not finite");
  return Json{{"seconds", seconds},
              {"generation_seconds", generation},
              {"update_seconds", seconds - generation},
              {"phases", result.seconds},
              {"tokens", result.metrics.at("tokens")}};
}

// Seconds of one product [rows, in] x [in, out], the best of five.
double ProductSeconds(int64_t rows, int64_t in, int64_t out) {
  const at::Tensor a = at::randn({rows, in}), b = at::randn({out, in});
  at::Tensor c = at::empty({rows, out});
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    tensor::MultiplyInto(c, a, b.t());
    best = std::min(best, SecondsSince(start));
  }
  return best;
}

// The linear layers of a pass over `tokens` of which `wanted` leave the last
// layer; attention is left out.
double LayersSeconds(const model::ModelConfig& c, int64_t tokens,
                     int64_t wanted) {
  const auto in = [&](int64_t rows) {
    return ProductSeconds(rows, c.hidden_size, c.q_size() + 2 * c.kv_size());
  };
  const auto rest = [&](int64_t rows) {
    return ProductSeconds(rows, c.q_size(), c.hidden_size) +
           ProductSeconds(rows, c.hidden_size, 2 * c.intermediate_size) +
           ProductSeconds(rows, c.intermediate_size, c.hidden_size);
  };
  return static_cast<double>(c.layers) * in(tokens) +
         static_cast<double>(c.layers - 1) * rest(tokens) + rest(wanted);
}

// Of a PPO update with a separate value model, all rows in one micro-batch: a
// pass of the reference, then in every epoch policy and value model forward and
// backward, which is two products for each of the forward pass. Only what an
// update cannot do without is counted: the first epoch's forward passes once,
// though two things are read from them, and the head's products without those
// that are made again for its gradient.
absl::StatusOr<Json> MatrixSeconds(const Bench& bench) {
  const TrainerOptions& o = bench.trainer->options();
  if (o.algorithm != Algorithm::kPpo || o.lora.has_value())
    return absl::InvalidArgumentError("matrix: expected ppo, full weights");
  at::NoGradGuard no_grad;
  const model::ModelConfig& c = bench.model->config();
  const int64_t responses = bench.options.rows * bench.options.new_tokens;
  const int64_t tokens = bench.options.rows *
                         (bench.options.prompt + bench.options.new_tokens - 1);
  if (tokens > o.micro_batch_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("matrix: expected --micro-batch-tokens of at least ",
                     tokens, ", found ", o.micro_batch_tokens));
  }
  const double layers = LayersSeconds(c, tokens, responses);
  const double head = ProductSeconds(responses, c.hidden_size, c.vocab_size);
  const double flops =
      2.0 * static_cast<double>(responses * c.hidden_size * c.vocab_size);
  return Json{
      {"seconds", (1 + 6.0 * o.epochs) * layers + (1 + 3.0 * o.epochs) * head},
      {"layers_seconds", layers},
      {"head_seconds", head},
      {"head_gflops", flops / head / 1e9}};
}

absl::StatusOr<Json> Memory() {
  std::ifstream file("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == "VmHWM:" && file >> kib)
      return Json{{"peak_bytes", kib * 1024}};
  }
  return absl::NotFoundError("/proc/self/status: VmHWM is missing");
}

absl::StatusOr<Json> Answer(Bench& bench, const std::string& command) {
  if (command == "step") return Train(bench, /*generate=*/true);
  if (command == "update") return Train(bench, /*generate=*/false);
  if (command == "matrix") return MatrixSeconds(bench);
  if (command == "memory") return Memory();
  return mpo::bench::UnknownCommand(command);
}

absl::Status Run(const Options& options) {
  tensor::KeepMemory();  // As the learner does.
  tensor::SetThreads(options.threads);
  MPO_ASSIGN_OR_RETURN(Bench bench, Load(options));
  return mpo::bench::ServeCommands(
      [&](const std::string& command) { return Answer(bench, command); });
}

}  // namespace
}  // namespace mpo

int main(int argc, char** argv) {
  mpo::Options options;
  CLI::App app("Times updates of the policy learner; see bench/learner.sh");
  app.add_option("--model", options.model, "Hugging Face directory")
      ->required();
  app.add_option("--algorithm", options.algorithm, "ppo or reinforce_pp");
  app.add_option("--threads", options.threads);
  app.add_option("--rows", options.rows, "samples of a step");
  app.add_option("--replicas", options.replicas, "samples of a prompt")
      ->check(CLI::PositiveNumber);
  app.add_option("--prompt", options.prompt, "tokens of a prompt");
  app.add_option("--new-tokens", options.new_tokens, "tokens of a response");
  app.add_option("--lora-rank", options.lora_rank, "0 = full weights");
  app.add_option("--lora-layers", options.lora_layers,
                 "top layers with an adapter; 0 = all");
  app.add_flag("--trunks", options.trunks,
               "updates start from activations that generation kept");
  app.add_option("--micro-batch-tokens", options.micro_batch_tokens);
  app.add_flag("--recompute", options.recompute, "gradient checkpointing");
  app.add_flag("--bfloat16", options.bfloat16, "passes in bfloat16");
  return mpo::bench::Main(app, argc, argv, [&] { return mpo::Run(options); });
}
