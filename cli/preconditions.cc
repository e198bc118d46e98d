// SPDX-License-Identifier: Apache-2.0
#include "cli/preconditions.h"

#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/evaluation/prompts.h"
#include "mpo/judge/rubric_problems.h"
#include "mpo/model/model_config.h"
#include "mpo/model/placement.h"
#include "mpo/rubric/rubric_yaml.h"
#include "mpo/text/chat_template.h"
#include "mpo/text/prompt_renderer.h"
#include "mpo/text/tokenizer.h"
#include "services/orchestrator/run_options.h"
#include "services/policy_learner/inference_engine.h"
#include "services/policy_learner/trainer_options_from.h"

namespace mpo::cli {
namespace {

using config::v1::RunConfig;

constexpr uint64_t kMiB = uint64_t{1} << 20;

absl::StatusOr<uint64_t> ModelBytes(const std::filesystem::path& directory) {
  std::error_code error;
  uint64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".safetensors") {
      bytes += entry.file_size(error);
    }
  }
  if (bytes == 0) {
    return absl::NotFoundError(absl::StrCat(
        directory.string(),
        ": expected a *.safetensors file with weights, found none"));
  }
  return bytes;
}

absl::Status CheckModel(const std::string& model) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(model, ignored)) {
    return absl::NotFoundError(
        absl::StrCat("no directory ", model,
                     "; expected a Hugging Face directory "
                     "(config.json, tokenizer.json, *.safetensors)"));
  }
  MPO_ASSIGN_OR_RETURN(const auto config, model::LoadModelConfig(model));
  MPO_ASSIGN_OR_RETURN(const auto tokenizer, text::Tokenizer::Load(model));
  if (tokenizer.vocab_size() > config.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        model, ": tokenizer.json has ", tokenizer.vocab_size(),
        " tokens, config.json's vocab_size is ", config.vocab_size));
  }
  return ModelBytes(model).status();
}

// That the reference reads what the policy writes.
absl::Status CheckReference(const std::string& reference,
                            const std::string& model) {
  MPO_RETURN_IF_ERROR(CheckModel(reference));
  const auto ours = model::LoadModelConfig(model);
  if (!ours.ok()) return absl::OkStatus();  // Told as a problem of the model.
  MPO_ASSIGN_OR_RETURN(const auto theirs, model::LoadModelConfig(reference));
  if (theirs.vocab_size == ours->vocab_size &&
      theirs.context >= ours->context) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      reference, ": expected the policy's vocabulary of ", ours->vocab_size,
      " and at least its context of ", ours->context, ", found ",
      theirs.vocab_size, " and ", theirs.context));
}

// The prompts of a file, and that each leaves room for a response.
absl::Status CheckPrompts(const std::string& path, const std::string& task,
                          const std::string& model) {
  MPO_ASSIGN_OR_RETURN(const std::vector<Prompt> prompts,
                       evaluation::ReadPrompts(path, task));
  const auto config = model::LoadModelConfig(model);
  const auto tokenizer = text::Tokenizer::Load(model);
  // Told as problems of the model.
  if (!config.ok() || !tokenizer.ok()) return absl::OkStatus();
  const auto chat = text::ChatTemplate::Load(model);
  std::vector<std::string> bad;
  for (const Prompt& prompt : prompts) {
    const auto tokens = text::RenderPrompt(*tokenizer, chat, prompt);
    if (!tokens.ok()) {
      bad.emplace_back(tokens.status().message());
    } else if (static_cast<int64_t>(tokens->size()) >= config->context) {
      bad.push_back(absl::StrCat("prompt \"", prompt.id, "\" has ",
                                 tokens->size(),
                                 " tokens, expected fewer than the model's "
                                 "context of ",
                                 config->context, "; shorten or drop it"));
    }
  }
  if (bad.empty()) return absl::OkStatus();
  constexpr size_t kShown = 3;
  std::string more;
  if (bad.size() > kShown) {
    more = absl::StrCat("; and ", bad.size() - kShown, " more");
    bad.resize(kShown);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", absl::StrJoin(bad, "; "), more));
}

absl::Status CheckRubric(const std::string& path, bool embedded_judge) {
  MPO_ASSIGN_OR_RETURN(const std::string yaml, ReadFile(path));
  if (const auto parsed = rubric::ParseYaml(yaml); !parsed.ok()) {
    return absl::Status(
        parsed.status().code(),
        absl::StrCat(path, ": ", std::string(parsed.status().message())));
  } else if (const auto problems =
                 judge::RubricProblems(*parsed, embedded_judge);
             !problems.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", absl::StrJoin(problems, "; ")));
  }
  return absl::OkStatus();
}

absl::Status CheckDisk(const RunConfig& config) {
  const absl::StatusOr<uint64_t> model = ModelBytes(config.policy().model());
  if (!model.ok()) return absl::OkStatus();  // Told as a problem of the model.
  const uint64_t needed = NeededBytes(*model, config);
  MPO_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(config.run().dir()));
  if (free >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s has %d MiB free, expected at least %d; make room or give another "
      "directory with --dir",
      config.run().dir(), free / kMiB, needed / kMiB));
}

}  // namespace

uint64_t NeededBytes(uint64_t model_bytes, const RunConfig& config) {
  const config::v1::Learner& learner = config.learner();
  // Weights and two moments of Adam, all float32 where the file may be 16 bit;
  // an adapter stays far below a tenth of that.
  const uint64_t whole = 6 * model_bytes;
  uint64_t checkpoint = config.policy().has_lora() ? whole / 10 : whole;
  if (learner.value_model() == "separate") checkpoint += whole;
  int64_t checkpoints = learner.checkpoints_kept() + 1;
  if (learner.checkpoints_keep_every() > 0) {
    checkpoints += config.run().steps() / learner.checkpoints_keep_every();
  }
  uint64_t needed =
      checkpoint * static_cast<uint64_t>(checkpoints) + 200 * kMiB;
  if (learner.record_rollouts()) {
    // Two tokens and a log-prob in text, and what surrounds them.
    const auto& generation = config.generation();
    needed += static_cast<uint64_t>(config.run().steps()) *
              static_cast<uint64_t>(generation.prompts_per_step()) *
              static_cast<uint64_t>(generation.group_size()) *
              (2048 + 32 * static_cast<uint64_t>(generation.max_new_tokens()));
  }
  return needed;
}

std::vector<std::string> FindProblems(const RunConfig& config) {
  std::vector<std::string> problems;
  const auto check = [&](const char* key, const absl::Status& status) {
    if (!status.ok()) {
      problems.push_back(
          absl::StrCat(key, ": ", std::string(status.message())));
    }
  };
  check("policy.model", CheckModel(config.policy().model()));
  if (const std::string& reference = config.policy().reference();
      !reference.empty()) {
    check("policy.reference",
          CheckReference(reference, config.policy().model()));
  }
  check("learner", policy_learner::TrainerOptionsFrom(config).status());
  check("learner", policy_learner::EnginesFrom(config.learner()).status());
  check("generation", model::ParsePlacement(config.generation().dtype(),
                                            config.generation().device())
                          .status());
  check("reward.rubric", CheckRubric(config.reward().rubric(),
                                     config.reward().judge() == "embedded"));
  absl::Status data = CheckPrompts(config.data().train(), config.task(),
                                   config.policy().model());
  check("data.train", data);
  if (!config.data().heldout().empty()) {
    const absl::Status heldout = CheckPrompts(
        config.data().heldout(), config.task(), config.policy().model());
    check("data.heldout", heldout);
    data.Update(heldout);
  }
  // The plan needs the prompts.
  if (data.ok()) {
    check("plan", orchestrator::EngineOptionsFrom(config, "").status());
  }
  if (const std::string& key = config.reward().http().api_key_file();
      !key.empty()) {
    check("reward.http.api_key_file", ReadFile(key).status());
  }
  if (const std::string& key = config.meta().http().api_key_file();
      !key.empty()) {
    check("meta.http.api_key_file", ReadFile(key).status());
  }
  check("run.dir", CheckDisk(config));
  return problems;
}

}  // namespace mpo::cli
