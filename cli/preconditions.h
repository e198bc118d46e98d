// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mpo/config/v1/config.pb.h"

namespace mpo::cli {

// Free bytes a run needs: checkpoints that are kept, one being written, ledger
// and logs.
uint64_t NeededBytes(uint64_t model_bytes, bool full_weights,
                     int checkpoints_kept);

// What would stop the run later: model files, tokenizer, rubric, prompts, key
// files, disk space. One line each, naming the key, what was expected, what
// came and what to do. Empty = ready.
std::vector<std::string> FindProblems(const config::v1::RunConfig& config);

}  // namespace mpo::cli
