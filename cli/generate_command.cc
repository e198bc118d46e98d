// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/generated_lines.h"
#include "cli/input_output.h"
#include "cli/option_checks.h"
#include "cli/prompt_lines.h"
#include "cli/sample_text.h"
#include "mpo/base/clock.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/generation/engine.h"
#include "mpo/generation/sampler.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/model/placement.h"
#include "mpo/tensor/threads.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"

namespace mpo::cli {
namespace {

using Json = nlohmann::ordered_json;

struct GenerateOptions {
  std::string model;
  std::string adapter;
  std::string prompts;
  std::string output;
  bool greedy = false;
  SamplingOptions sampling;
  uint64_t seed = 0;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  int batch = 64;
  int kv_cache_mib = 0;
  bool logprobs = false;
  bool no_default_system = false;
  bool chat = false;
  std::string system;
  std::string chat_family;
  std::string dtype = "float32";
  std::string device = "cpu";
  int threads = 0;
  bool json = false;
};

absl::StatusOr<std::vector<generation::GenerationRequest>> Requests(
    const GenerateOptions& options, const text::Tokenizer& tokenizer) {
  MPO_ASSIGN_OR_RETURN(const std::string text, ReadInput(options.prompts));
  MPO_ASSIGN_OR_RETURN(const auto lines,
                       ParsePromptLines(text, options.prompts));
  // Only needed, and only looked for, where a prompt has messages.
  std::optional<text::ChatTemplate> chat;
  std::vector<generation::GenerationRequest> requests;
  for (const PromptLine& line : lines) {
    generation::GenerationRequest request{
        .id = line.id,
        .prompt_tokens = {},
        .seed = options.seed + requests.size()};
    if (line.tokens.has_value()) {
      request.prompt_tokens = *line.tokens;
    } else if (line.text.has_value()) {
      MPO_ASSIGN_OR_RETURN(
          request.prompt_tokens,
          tokenizer.Encode(*line.text, /*add_special_tokens=*/true));
    } else {
      if (!chat.has_value()) {
        MPO_ASSIGN_OR_RETURN(
            chat, text::ChatTemplate::Load(options.model, options.chat_family));
      }
      const auto rendered = chat->Render(
          line.messages, {.default_system_prompt = !options.no_default_system});
      if (!rendered.ok()) {
        return absl::Status(
            rendered.status().code(),
            absl::StrCat(options.prompts, ": id \"", line.id,
                         "\": ", std::string(rendered.status().message())));
      }
      MPO_ASSIGN_OR_RETURN(request.prompt_tokens, tokenizer.Encode(*rendered));
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

using Texts = std::vector<std::shared_ptr<SampleText>>;

// One a request; none without stop strings.
Texts WatchStops(const GenerateOptions& options,
                 const text::Tokenizer& tokenizer,
                 std::vector<generation::GenerationRequest>& requests) {
  Texts texts;
  if (options.stop.empty()) return texts;
  for (generation::GenerationRequest& request : requests) {
    auto text = std::make_shared<SampleText>(tokenizer, options.stop);
    request.on_token = [text](const generation::GenerationResult& result) {
      return text->OnToken(result);
    };
    texts.push_back(std::move(text));
  }
  return texts;
}

absl::Status WriteResults(
    const GenerateOptions& options, const text::Tokenizer& tokenizer,
    const Texts& texts,
    const std::vector<generation::GenerationResult>& results) {
  std::string lines;
  for (size_t i = 0; i < results.size(); ++i) {
    std::optional<std::string> text;
    if (!texts.empty()) text = texts[i]->Finish();
    lines += GeneratedLine(results[i], tokenizer, text, options.logprobs);
  }
  return WriteOutput(options.output, lines);
}

double Seconds(absl::Time since) {
  return absl::ToDoubleSeconds(Clock::Real().Steady() - since);
}

void PrintSummary(const GenerateOptions& options, int64_t prompt_tokens,
                  const generation::EngineStatistics& statistics,
                  double seconds, double load_seconds) {
  const int64_t generated = statistics.generated_tokens;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const Json json{{"prompt_tokens", prompt_tokens},
                  {"generated_tokens", generated},
                  {"seconds", seconds},
                  {"tokens_per_second",
                   seconds > 0 ? static_cast<double>(generated) / seconds : 0},
                  {"first_token_seconds", statistics.first_token_seconds},
                  {"load_seconds", load_seconds},
                  {"kv_cache_bytes", statistics.kv_cache_bytes},
                  {"kv_bytes_per_token", statistics.kv_bytes_per_token},
                  {"kv_allocated_bytes_per_token",
                   static_cast<double>(statistics.kv_allocated_bytes) /
                       static_cast<double>(std::max<int64_t>(
                           statistics.kv_capacity_tokens, 1))},
                  {"peak_rss_bytes", int64_t{usage.ru_maxrss} * 1024}};
  // Not among the lines.
  FILE* const out = IsStdout(options.output) ? stderr : stdout;
  if (options.json) {
    std::fprintf(out, "%s\n", json.dump().c_str());
  } else {
    std::fprintf(out, "%lld tokens in %.1f s, %.0f tokens/s, written to %s\n",
                 static_cast<long long>(generated), seconds,
                 seconds > 0 ? static_cast<double>(generated) / seconds : 0,
                 options.output.c_str());
  }
}

// A model ready to answer.
struct Loaded {
  std::shared_ptr<model::LoraAdapter> adapter;
  std::unique_ptr<generation::Engine> engine;
};

absl::StatusOr<Loaded> Load(const GenerateOptions& options,
                            const text::Tokenizer& tokenizer,
                            const model::ModelConfig& config) {
  MPO_ASSIGN_OR_RETURN(const model::LoadOptions placement,
                       model::ParsePlacement(options.dtype, options.device));
  MPO_ASSIGN_OR_RETURN(const auto model,
                       model::LanguageModel::Load(options.model, placement));
  Loaded loaded;
  if (!options.adapter.empty()) {
    MPO_ASSIGN_OR_RETURN(loaded.adapter,
                         model::LoraAdapter::Load(options.adapter, config));
    if (loaded.adapter->config().dropout > 0) {
      std::cerr << "note: " << options.adapter << " has lora_dropout "
                << loaded.adapter->config().dropout
                << "; generation does not apply it\n";
    }
  }
  generation::EngineOptions engine_options{
      .max_rows = options.batch,
      .kv_cache_bytes =
          uint64_t{1024} * 1024 * static_cast<uint64_t>(options.kv_cache_mib)};
  engine_options.stop_tokens = tokenizer.eos_ids();
  if (options.ignore_eos) engine_options.stop_tokens->clear();
  MPO_ASSIGN_OR_RETURN(loaded.engine,
                       generation::Engine::Create(model, engine_options));
  return loaded;
}

// What can be told before anything is loaded.
absl::Status Prepare(GenerateOptions& options) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  tensor::SetThreads(options.threads > 0 ? options.threads : cores);
  if (options.greedy) options.sampling.temperature = 0;
  MPO_RETURN_IF_ERROR(generation::Validate(options.sampling));
  return model::ParsePlacement(options.dtype, options.device).status();
}

absl::Status Generate(GenerateOptions options) {
  MPO_RETURN_IF_ERROR(Prepare(options));
  MPO_RETURN_IF_ERROR(CheckOutput(options.output));
  const absl::Time load_began = Clock::Real().Steady();
  MPO_ASSIGN_OR_RETURN(const text::Tokenizer tokenizer,
                       text::Tokenizer::Load(options.model));
  MPO_ASSIGN_OR_RETURN(const model::ModelConfig config,
                       model::LoadModelConfig(options.model));
  // Before the weights: a bad file is told at once.
  MPO_ASSIGN_OR_RETURN(auto requests, Requests(options, tokenizer));
  const Texts texts = WatchStops(options, tokenizer, requests);
  MPO_ASSIGN_OR_RETURN(const Loaded loaded, Load(options, tokenizer, config));
  const double load_seconds = Seconds(load_began);

  const absl::Time began = Clock::Real().Steady();
  MPO_ASSIGN_OR_RETURN(const auto results,
                       loaded.engine->Generate(requests, options.sampling,
                                               loaded.adapter.get()));
  const double seconds = Seconds(began);
  int64_t prompt_tokens = 0;
  for (const generation::GenerationRequest& request : requests)
    prompt_tokens += static_cast<int64_t>(request.prompt_tokens.size());
  MPO_RETURN_IF_ERROR(WriteResults(options, tokenizer, texts, results));
  PrintSummary(options, prompt_tokens, loaded.engine->statistics(), seconds,
               load_seconds);
  return FailureOf(results, options.output);
}

std::atomic<bool> interrupted = false;

absl::Status RunChat(GenerateOptions options) {
  MPO_RETURN_IF_ERROR(Prepare(options));
  MPO_ASSIGN_OR_RETURN(
      const auto chat,
      text::ChatTemplate::Load(options.model, options.chat_family));
  MPO_ASSIGN_OR_RETURN(const text::Tokenizer tokenizer,
                       text::Tokenizer::Load(options.model));
  MPO_ASSIGN_OR_RETURN(const model::ModelConfig config,
                       model::LoadModelConfig(options.model));
  MPO_ASSIGN_OR_RETURN(const Loaded loaded, Load(options, tokenizer, config));
  const bool interactive = isatty(STDIN_FILENO) != 0;
  if (interactive) {
    // No SA_RESTART: at the prompt the read ends, and so does the command.
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = true; };
    sigaction(SIGINT, &action, nullptr);
  }
  Chat session(*loaded.engine, loaded.adapter.get(), tokenizer, chat,
               {.sampling = options.sampling,
                .seed = options.seed,
                .stops = options.stop,
                .system = options.system,
                .default_system_prompt = !options.no_default_system,
                .interactive = interactive});
  return session.Run(std::cin, std::cout,
                     [] { return interrupted.exchange(false); });
}

}  // namespace

void AddGenerateCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "generate", "Generate responses to prompts with a model directory");
  auto options = std::make_shared<GenerateOptions>();
  command->add_option("--model", options->model, "Hugging Face directory")
      ->required();
  command->add_option("--adapter", options->adapter, "PEFT LoRA directory");
  CLI::Option* prompts = command->add_option(
      "--prompts", options->prompts,
      "JSON lines: id and one of prompt, messages, tokens; - = standard input");
  CLI::Option* output =
      command->add_option("--output", options->output,
                          "JSON lines written here; - = standard output");
  prompts->needs(output);
  output->needs(prompts);
  CLI::Option* chat =
      command
          ->add_flag("--chat", options->chat,
                     "Converse: a line of standard input is a turn")
          ->excludes(prompts)
          ->excludes(output);
  command->add_option("--system", options->system, "System turn of the chat")
      ->needs(chat);
  CLI::Option* greedy =
      command->add_flag("--greedy", options->greedy, "Same as --temperature 0");
  command
      ->add_option("--temperature", options->sampling.temperature,
                   "0 = greedy, else from 1e-6")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0))
      ->excludes(greedy);
  command->add_option("--top-k", options->sampling.top_k, "0 = off")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->add_option("--top-p", options->sampling.top_p, "1 = off")
      ->capture_default_str()
      ->check(CLI::Range(1e-6, 1.0));
  command->add_option("--min-p", options->sampling.min_p, "0 = off")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  command
      ->add_option("--repetition-penalty", options->sampling.repetition_penalty,
                   "1 = off")
      ->capture_default_str()
      ->check(CLI::Range(1e-3, 10.0));
  command->add_option("--stop", options->stop,
                      "Text that ends a response; may be given several times");
  command
      ->add_option("--min-new-tokens", options->sampling.min_new_tokens,
                   "No end of a response before")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->add_option("--seed", options->seed, "Prompt i uses seed + i")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command
      ->add_option("--max-new-tokens", options->sampling.max_new_tokens,
                   "Tokens a response may have")
      ->capture_default_str()
      ->check(WholeNumber(1));
  command->add_flag("--ignore-eos", options->ignore_eos,
                    "Go on to --max-new-tokens");
  command->add_option("--batch", options->batch, "Prompts decoded together")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096))
      ->excludes(chat);
  command
      ->add_option("--kv-cache-mib", options->kv_cache_mib,
                   "Bound of the key-value cache; 0 = none")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 24));
  command
      ->add_flag("--logprobs", options->logprobs,
                 "Write the log-probs of each token, as sampled and of the "
                 "model's own distribution")
      ->excludes(chat);
  command->add_flag("--no-default-system", options->no_default_system,
                    "Render messages without the model's own system turn, as "
                    "training does");
  command
      ->add_option("--chat-family", options->chat_family,
                   "How to render messages, where the model's chat template "
                   "is not known")
      ->check(CLI::IsMember(text::ChatTemplate::FamilyNames()));
  command->add_option("--dtype", options->dtype, "Of weights and cache")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  command->add_option("--device", options->device, "cpu, cuda or cuda:<index>")
      ->capture_default_str();
  command->add_option("--threads", options->threads, "0 = all cores")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  command
      ->add_flag("--json", options->json,
                 "Summary as JSON, on standard output unless the "
                 "lines are there")
      ->excludes(chat);
  command->callback([options, &action] {
    if (!options->chat && options->prompts.empty())
      throw CLI::RequiredError("--prompts and --output, or --chat");
    action = [options] {
      return Report(options->chat ? RunChat(*options) : Generate(*options));
    };
  });
}

}  // namespace mpo::cli
