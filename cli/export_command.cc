// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/option_checks.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/config/run_config.h"
#include "mpo/model/companion_files.h"
#include "mpo/model/language_model.h"
#include "mpo/model/lora.h"
#include "mpo/model/placement.h"
#include "mpo/model/weight_files.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;

struct ExportOptions {
  std::string run;
  int64_t step = 0;
  std::string model;
  std::string adapter;
  std::string output;
  bool adapter_only = false;
  std::string dtype;  // Empty = as the base's files.
  int64_t shard_mib = 5000;
};

// What is exported: a model directory and the trained weights beside it.
struct Source {
  fs::path model;
  fs::path weights;  // PEFT directory, or one with model.safetensors.
  bool is_adapter = true;
};

// The checkpoint of `step`, 0 = the newest. Only a checkpoint that has its
// manifest is whole.
absl::StatusOr<fs::path> Checkpoint(const fs::path& run, int64_t step) {
  int64_t newest = 0;
  std::string present;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    int64_t number = 0;
    const std::string name = entry.path().filename().string();
    if (name.rfind("step_", 0) != 0 ||
        !absl::SimpleAtoi(name.substr(5), &number) ||
        !fs::exists(entry.path() / "MANIFEST.json")) {
      continue;
    }
    newest = std::max(newest, number);
    absl::StrAppend(&present, present.empty() ? "" : ", ", number);
    if (number == step) return entry.path();
  }
  if (step == 0 && newest > 0)
    return run / "checkpoints" / absl::StrCat("step_", newest);
  return absl::NotFoundError(
      absl::StrCat(run.string(), ": no checkpoint",
                   step > 0 ? absl::StrCat(" of step ", step) : "", "; it has ",
                   present.empty() ? "none" : "steps " + present));
}

absl::StatusOr<Source> FindSource(const ExportOptions& options) {
  if (options.run.empty() == options.model.empty()) {
    return absl::InvalidArgumentError(
        "expected either --run or --model with --adapter");
  }
  if (options.run.empty()) {
    if (options.adapter.empty())
      return absl::InvalidArgumentError("--model needs --adapter");
    return Source{.model = options.model, .weights = options.adapter};
  }
  MPO_RETURN_IF_ERROR(CheckDirectory(options.run, "a run directory"));
  MPO_ASSIGN_OR_RETURN(
      const config::LoadedConfig loaded,
      config::LoadRunConfig(fs::path(options.run) / "config.resolved.yaml"));
  Source source;
  source.model = loaded.config.policy().model();
  MPO_ASSIGN_OR_RETURN(source.weights, Checkpoint(options.run, options.step));
  source.is_adapter = loaded.config.policy().has_lora();
  return source;
}

// The base with what was trained in it.
absl::StatusOr<std::shared_ptr<const model::LanguageModel>> Trained(
    const Source& source) {
  if (source.is_adapter) {
    MPO_ASSIGN_OR_RETURN(const auto base,
                         model::LanguageModel::Load(source.model));
    MPO_ASSIGN_OR_RETURN(
        const auto adapter,
        model::LoraAdapter::Load(source.weights, base->config()));
    return model::Merge(*base, *adapter);
  }
  MPO_ASSIGN_OR_RETURN(const model::ModelConfig config,
                       model::LoadModelConfig(source.model));
  MPO_ASSIGN_OR_RETURN(const model::WeightFiles files,
                       model::OpenWeightFiles(source.weights));
  std::vector<tensor::NamedTensor> tensors;
  for (const auto& [name, file] : files) {
    MPO_ASSIGN_OR_RETURN(at::Tensor value, file->Read(name));
    tensors.push_back({name, std::move(value)});
  }
  return model::LanguageModel::FromTensors(
      config, tensors, {}, model::LanguageModel::Memory::kShared);
}

absl::StatusOr<model::WeightFileOptions> FileOptions(
    const ExportOptions& options, const Source& source) {
  model::WeightFileOptions files{
      .shard_bytes = static_cast<uint64_t>(options.shard_mib) << 20};
  if (options.dtype.empty()) {
    MPO_ASSIGN_OR_RETURN(files.dtype, model::StoredDtype(source.model));
  } else {
    MPO_ASSIGN_OR_RETURN(const model::LoadOptions placement,
                         model::ParsePlacement(options.dtype, "cpu"));
    files.dtype = placement.dtype;
  }
  return files;
}

absl::Status CopyFile(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "copy ", from.string(), " to ", to.string(), ": ", error.message()));
}

absl::Status Export(const ExportOptions& options) {
  MPO_ASSIGN_OR_RETURN(const Source source, FindSource(options));
  const fs::path output = options.output;
  std::error_code error;
  if (fs::exists(output, error) && !fs::is_empty(output, error)) {
    return absl::AlreadyExistsError(absl::StrCat(
        output.string(), " is not empty; give a directory that is new"));
  }
  if (options.adapter_only && !source.is_adapter) {
    return absl::InvalidArgumentError(
        "the run trains full weights, so there is no adapter; leave out "
        "--adapter-only");
  }
  // Everything is read before anything is written.
  std::shared_ptr<const model::LanguageModel> result;
  model::WeightFileOptions files;
  if (!options.adapter_only) {
    MPO_ASSIGN_OR_RETURN(files, FileOptions(options, source));
    MPO_ASSIGN_OR_RETURN(result, Trained(source));
  }
  fs::create_directories(output, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat(output.string(), ": ", error.message()));
  }
  if (options.adapter_only) {
    for (const char* name :
         {"adapter_model.safetensors", "adapter_config.json"}) {
      MPO_RETURN_IF_ERROR(CopyFile(source.weights / name, output / name));
    }
  } else {
    MPO_RETURN_IF_ERROR(result->Save(output, files));
    MPO_RETURN_IF_ERROR(model::CopyCompanionFiles(source.model, output));
  }
  std::printf("%s of %s, %s: written to %s\n",
              options.adapter_only ? "adapter" : "merged model",
              source.model.string().c_str(), source.weights.string().c_str(),
              output.string().c_str());
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "export", "Write a trained policy as a model or adapter directory");
  auto options = std::make_shared<ExportOptions>();
  command->add_option("--run", options->run, "Run directory");
  command
      ->add_option("--step", options->step,
                   "Of the run's checkpoints; 0 = the newest")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->add_option("--model", options->model,
                      "Hugging Face directory, in place of --run");
  command->add_option("--adapter", options->adapter,
                      "PEFT LoRA directory, with --model");
  command
      ->add_option("--output", options->output,
                   "Directory that is made; must be new or empty")
      ->required();
  command->add_flag("--adapter-only", options->adapter_only,
                    "The PEFT adapter without the base");
  command
      ->add_option("--dtype", options->dtype,
                   "Of the weights written; default: as the base's files")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  command
      ->add_option("--shard-mib", options->shard_mib,
                   "Weights beyond it are split into files of at most so much")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24));
  command->callback([options, &action] {
    action = [options] { return Report(Export(*options)); };
  });
}

}  // namespace mpo::cli
