// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/config/v1/config.pb.h"

namespace mpo::config {

// A run's configuration: every key of config.proto, with defaults filled in and
// every rule there checked.
struct LoadedConfig {
  v1::RunConfig config;
  std::string text;             // The file as it stands.
  std::set<std::string> given;  // Keys the file or an override gives.
};

// Reads YAML. `overrides` are "section.key=value" and stand in place of what
// the file says. NOT_FOUND: no such file. INVALID_ARGUMENT: every problem
// found, one a line, as "file:line: key: what was expected and what came":
// bad YAML, unknown, repeated or missing keys, wrong types, values out of
// range.
absl::StatusOr<LoadedConfig> LoadRunConfig(
    const std::filesystem::path& path,
    const std::vector<std::string>& overrides = {});

// The same from memory; `source` stands for the file in messages.
absl::StatusOr<LoadedConfig> ParseRunConfig(
    std::string_view yaml, const std::string& source,
    const std::vector<std::string>& overrides = {});

// YAML with every key, which LoadRunConfig reads back to an equal message.
std::string ToYaml(const v1::RunConfig& config);

// SHA-256 of what decides a run's result: everything but `mesh`, `run.dir` and
// `learner.ranks` and `learner.engines`.
std::string Sha256Of(const v1::RunConfig& config);

// What differs between two configurations of different Sha256Of, as
// "run.seed: 1 -> 2", joined by "; ".
std::string DifferencesOf(const v1::RunConfig& before,
                          const v1::RunConfig& after);

}  // namespace mpo::config
