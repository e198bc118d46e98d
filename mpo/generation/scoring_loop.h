// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <stop_token>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/generation/engine_state.h"

namespace mpo::generation {

// One call of Engine::LogProbs: batches of sequences, each distinct prefix run
// once, then the scored tokens of every sequence of the batch.
class ScoringLoop {
 public:
  // Everything passed by reference must outlive the loop.
  ScoringLoop(const std::vector<ScoreRequest>& requests,
              const EngineOptions& options, const model::ModelConfig& config,
              EngineState& state, std::stop_token stop);

  // CANCELLED when stopped. Throws LibTorch's exceptions.
  absl::StatusOr<std::vector<ScoreResult>> Run();

 private:
  // Sequences of one batch that share the tokens before the first scored one.
  struct Group {
    std::vector<size_t> members;  // Indices of requests.
    std::unique_ptr<PageTable> pages;
  };
  // Log-prob `index` of a request is that of `token` in a row of logits.
  struct Target {
    size_t request = 0;
    size_t index = 0;
    int32_t token = 0;
  };

  std::deque<size_t> InPrefixOrder();
  std::vector<Group> NextBatch(std::deque<size_t>& waiting);
  bool RunPrefixes(std::vector<Group>& groups);
  bool RunRests(std::vector<Group>& groups);
  // Where a request's trunk holds the inputs of its token `position`; null
  // without trunks.
  float* TrunkAt(const ScoreRequest& request, int position) const;
  // `targets[i]` are looked up in wanted row i of `tokens`.
  bool RunAndLookUp(const std::vector<InputToken>& tokens,
                    const std::vector<std::vector<Target>>& targets);
  bool SamePrefix(size_t a, size_t b) const;

  const std::vector<ScoreRequest>& requests_;
  const EngineOptions& options_;
  const model::ModelConfig& config_;
  EngineState& state_;
  const int64_t first_layer_;  // 0 without trunks.
  const std::stop_token stop_;
  std::vector<ScoreResult> results_;
};

}  // namespace mpo::generation
