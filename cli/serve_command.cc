// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/ports.h"
#include "mpo/base/clock.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/generation/engine.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/model/placement.h"
#include "mpo/rpc/termination.h"
#include "mpo/serving/generation_worker.h"
#include "mpo/serving/openai_server.h"
#include "mpo/tensor/threads.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/tokenizer.h"

namespace mpo::cli {
namespace {

struct ServeOptions {
  std::string model;
  std::string adapter;
  std::string chat_family;
  bool no_default_system = false;
  std::string dtype = "float32";
  std::string device = "cpu";
  std::string name;
  std::string host = "127.0.0.1";
  int port = 8000;
  std::string api_key_file;
  int batch = 64;
  int max_waiting = 256;
  int kv_cache_mib = 0;
  int threads = 0;
  double drain_seconds = 30;
};

absl::Status Serve(const ServeOptions& options) {
  rpc::BlockTerminationSignals();  // Before any thread starts.
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  tensor::SetThreads(options.threads > 0 ? options.threads : cores);
  serving::OpenAiServerOptions http{
      .host = options.host, .port = options.port, .model_name = options.name};
  http.default_system_prompt = !options.no_default_system;
  // All that run or may wait, and some to say that no more can, or that all is
  // well.
  http.connections = std::min(1024, options.batch + options.max_waiting + 16);
  if (http.model_name.empty()) {
    http.model_name =
        std::filesystem::weakly_canonical(options.model).filename().string();
  }
  if (!options.api_key_file.empty()) {
    MPO_ASSIGN_OR_RETURN(std::string key, ReadFile(options.api_key_file));
    http.api_key = std::string(absl::StripAsciiWhitespace(key));
    if (http.api_key.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          options.api_key_file, ": expected a key, found nothing"));
    }
  }
  if (options.port != 0) {
    // Told before a model is loaded; other spellings of a host are told after.
    const absl::Status free = CheckPortFree(
        absl::StrCat(options.host, ":", options.port), "give --port 0");
    if (absl::IsAlreadyExists(free)) return free;
  }
  MPO_ASSIGN_OR_RETURN(const model::LoadOptions placement,
                       model::ParsePlacement(options.dtype, options.device));
  MPO_ASSIGN_OR_RETURN(const text::Tokenizer tokenizer,
                       text::Tokenizer::Load(options.model));
  const auto chat =
      text::ChatTemplate::Load(options.model, options.chat_family);
  MPO_ASSIGN_OR_RETURN(const auto model,
                       model::LanguageModel::Load(options.model, placement));
  std::shared_ptr<model::LoraAdapter> adapter;
  if (!options.adapter.empty()) {
    MPO_ASSIGN_OR_RETURN(
        adapter, model::LoraAdapter::Load(options.adapter, model->config()));
  }
  MPO_ASSIGN_OR_RETURN(
      auto engine,
      generation::Engine::Create(
          model, {.max_rows = options.batch,
                  .kv_cache_bytes = uint64_t{1024} * 1024 *
                                    static_cast<uint64_t>(options.kv_cache_mib),
                  .stop_tokens = tokenizer.eos_ids(),
                  .interleave_prefill = true}));
  MPO_RETURN_IF_ERROR(engine->SetPolicy(nullptr, adapter, /*version=*/0));
  serving::GenerationWorker worker(std::move(engine), tokenizer,
                                   {.max_waiting = options.max_waiting});
  MPO_ASSIGN_OR_RETURN(
      auto server, serving::OpenAiServer::Start(http, worker, tokenizer, chat,
                                                Clock::Real()));
  const bool colons = options.host.find(':') != std::string::npos;  // IPv6.
  std::printf("serving %s at http://%s%s%s:%d/v1; Ctrl-C stops\n",
              http.model_name.c_str(), colons ? "[" : "", options.host.c_str(),
              colons ? "]" : "", server->port());
  if (!chat.ok()) {
    std::printf("no chat completions: %s\n",
                std::string(chat.status().message()).c_str());
  }
  std::fflush(stdout);
  rpc::WaitForTerminationSignal();
  std::printf("stopping: %lld samples in hand\n",
              static_cast<long long>(worker.in_hand()));
  std::fflush(stdout);
  std::jthread impatient([&](std::stop_token done) {
    while (!done.stop_requested()) {
      if (rpc::WaitForTerminationSignal(absl::Milliseconds(100)) != 0) {
        server->Cut();
      }
    }
  });
  if (server->Stop(absl::Seconds(options.drain_seconds)))
    return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(
      "some requests were not done after ", options.drain_seconds, " s"));
}

}  // namespace

void AddServeCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "serve", "Serve a model directory over OpenAI's HTTP API");
  auto options = std::make_shared<ServeOptions>();
  command->add_option("--model", options->model, "Hugging Face directory")
      ->required();
  command->add_option("--adapter", options->adapter, "PEFT LoRA directory");
  command
      ->add_option("--chat-family", options->chat_family,
                   "How to render messages, where the model's chat template "
                   "is not known")
      ->check(CLI::IsMember(text::ChatTemplate::FamilyNames()));
  command->add_flag("--no-default-system", options->no_default_system,
                    "Render chats without the model's own system turn, as "
                    "training does");
  command->add_option("--name", options->name,
                      "Name clients ask for; default: the directory's");
  command->add_option("--host", options->host, "Address to listen at")
      ->capture_default_str();
  command->add_option("--port", options->port, "0 = any free one")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535));
  command->add_option("--api-key-file", options->api_key_file,
                      "File with the key that clients must send");
  command->add_option("--batch", options->batch, "Samples decoded together")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command
      ->add_option("--max-waiting", options->max_waiting,
                   "Samples that may wait; more get a 429")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  command
      ->add_option("--kv-cache-mib", options->kv_cache_mib,
                   "Bound of the key-value cache; 0 = none")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 24));
  command->add_option("--dtype", options->dtype, "Of weights and cache")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  command->add_option("--device", options->device, "cpu, cuda or cuda:<index>")
      ->capture_default_str();
  command->add_option("--threads", options->threads, "0 = all cores")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  command
      ->add_option("--drain-seconds", options->drain_seconds,
                   "Time running requests get after Ctrl-C")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 3600.0));
  command->callback([options, &action] {
    action = [options] { return Report(Serve(*options)); };
  });
}

}  // namespace mpo::cli
