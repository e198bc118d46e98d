// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::cli {

// A run's configuration as `mpo train` was given it.
struct TrainConfig {
  config::v1::RunConfig config;
  std::string text;    // The file as it stands.
  std::string sha256;  // Of what decides the run's result.
  // Keys of the mesh section that the file or an override sets.
  std::vector<std::string> fixed_addresses;
};

// Reads the file and puts `overrides` ("section.key=value") in its place.
// NOT_FOUND: no such file. INVALID_ARGUMENT: every problem, one a line.
absl::StatusOr<TrainConfig> LoadTrainConfig(
    const std::filesystem::path& file,
    const std::vector<std::string>& overrides);

// FAILED_PRECONDITION: the run directory holds a run of another configuration;
// the message names each key that differs and says what to do.
absl::Status CheckSameRun(const std::filesystem::path& directory,
                          const TrainConfig& train);

// Writes config.yaml and config.resolved.yaml.
absl::Status WriteConfigs(const std::filesystem::path& directory,
                          const TrainConfig& train);

}  // namespace mpo::cli
