// SPDX-License-Identifier: Apache-2.0
#include "cli/train_config.h"

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/config/run_config.h"

namespace mpo::cli {

absl::StatusOr<TrainConfig> LoadTrainConfig(
    const std::filesystem::path& file,
    const std::vector<std::string>& overrides) {
  MPO_ASSIGN_OR_RETURN(config::LoadedConfig loaded,
                       config::LoadRunConfig(file, overrides));
  TrainConfig train{.config = loaded.config,
                    .text = loaded.text,
                    .sha256 = config::Sha256Of(loaded.config),
                    .fixed_addresses = {}};
  for (const char* name : {"orchestrator", "policy_learner", "reward_server",
                           "meta_reward_server", "learner_group"}) {
    if (loaded.given.count(absl::StrCat("mesh.", name)) > 0) {
      train.fixed_addresses.emplace_back(name);
    }
  }
  return train;
}

absl::Status CheckSameRun(const std::filesystem::path& directory,
                          const TrainConfig& train) {
  const std::filesystem::path path = directory / "config.resolved.yaml";
  const absl::StatusOr<config::LoadedConfig> before =
      config::LoadRunConfig(path);
  if (absl::IsNotFound(before.status())) return absl::OkStatus();
  if (!before.ok()) return before.status();
  if (config::Sha256Of(before->config) == train.sha256) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      directory.string(), " holds a run of another configuration: ",
      config::DifferencesOf(before->config, train.config),
      "; go on with its own, or give another directory with --dir"));
}

absl::Status WriteConfigs(const std::filesystem::path& directory,
                          const TrainConfig& train) {
  MPO_RETURN_IF_ERROR(
      WriteFileAtomically(directory / "config.yaml", train.text));
  return WriteFileAtomically(directory / "config.resolved.yaml",
                             config::ToYaml(train.config));
}

}  // namespace mpo::cli
