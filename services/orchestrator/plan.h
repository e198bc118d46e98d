// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"

namespace mpo::orchestrator {

// Everything the plan of a run depends on. Two runs with equal options plan
// the same samples in the same order.
struct PlanOptions {
  std::string run;  // Name of the run; part of every sample key.
  int64_t seed = 0;
  int64_t total_steps = 0;       // Steps are 1..total_steps.
  int prompts_per_step = 16;     // >= 1.
  int group_size = 4;            // Replicas of a prompt, >= 1.
  int unit_size = 32;            // Samples of a unit, >= group_size.
  int max_staleness = 0;         // Versions the weights may be behind.
  int evaluation_every = 0;      // 0 = never.
  int evaluation_prompts = 0;    // Of one evaluation; 0 = all.
  std::vector<Prompt> training;  // At least prompts_per_step.
  std::vector<Prompt> heldout;   // Empty = no evaluation.
  SamplingOptions sampling;
};

// INVALID_ARGUMENT with every problem: too few training prompts, a unit
// smaller than a group, duplicate prompt ids, a prompt in both sets.
absl::Status ValidatePlan(const PlanOptions& options);

// SHA-256 hex of "run|kind|step|prompt|replica". Kind is "train" or "eval".
std::string SampleKey(const std::string& run, WorkKind kind, int64_t step,
                      const std::string& prompt_id, int replica);

// Seed of the sample's generator: first 64 bits of SHA-256 of "seed|key".
uint64_t SampleSeed(int64_t run_seed, const std::string& key);

// "train/12/0": kind, step, index.
std::string UnitId(WorkKind kind, int64_t step, int index);

// "train" or "eval".
const char* Name(WorkKind kind);

// True when the policy after `step` is evaluated: step 0, every k-th and the
// last one, unless evaluation is off.
bool IsEvaluated(const PlanOptions& options, int64_t step, int64_t last_step);

// The order of the training prompts: each epoch is a seeded permutation, and
// no step holds a prompt twice even where it spans two epochs. Remembers the
// epoch it was asked for last, so that walking forward is cheap. Results
// depend on the options only. Not thread-safe.
class PromptOrder {
 public:
  // `count` prompts, of which each step takes `per_step` <= count.
  PromptOrder(int64_t seed, int64_t count, int64_t per_step)
      : seed_(seed), count_(count), per_step_(per_step) {}

  // Indices of the prompts of `step` (from 1), in plan order.
  std::vector<int64_t> Step(int64_t step);

 private:
  void MoveTo(int64_t epoch);
  std::vector<int64_t> Shuffled(int64_t epoch) const;

  const int64_t seed_;
  const int64_t count_;
  const int64_t per_step_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;
};

// Units of training step `step`, whole groups in plan order. Rubrics and lease
// epochs are left empty.
std::vector<WorkUnit> PlanTraining(const PlanOptions& options,
                                   PromptOrder& order, int64_t step);

// Units that evaluate the policy after `step` on the first
// `evaluation_prompts` held-out prompts, one replica each.
std::vector<WorkUnit> PlanEvaluation(const PlanOptions& options, int64_t step);

}  // namespace mpo::orchestrator
