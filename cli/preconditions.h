// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mpo/config/v1/config.pb.h"

namespace mpo::cli {

// Free bytes a run needs beside a model of `model_bytes`: checkpoints that are
// kept, one being written, recorded rollouts, ledger and logs.
uint64_t NeededBytes(uint64_t model_bytes, const config::v1::RunConfig& config);

// What would stop the run later: model files, tokenizer, rubric, prompts, plan,
// the learner's settings, key files, disk space. One line each, naming the key,
// what was expected, what came and what to do. Empty = ready.
std::vector<std::string> FindProblems(const config::v1::RunConfig& config);

}  // namespace mpo::cli
