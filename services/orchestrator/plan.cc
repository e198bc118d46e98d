// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/plan.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/digest.h"

namespace mpo::orchestrator {
namespace {

uint64_t Hash64(const std::string& text) {
  const std::string hex = Sha256Hex(text);
  return std::stoull(hex.substr(0, 16), nullptr, 16);
}

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t NextRandom(uint64_t& state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

Sample MakeSample(const PlanOptions& options, WorkKind kind, int64_t step,
                  const Prompt& prompt, int replica) {
  Sample sample;
  sample.key = SampleKey(options.run, kind, step, prompt.id, replica);
  sample.step = step;
  sample.replica = replica;
  sample.seed = SampleSeed(options.seed, sample.key);
  sample.prompt = prompt;
  return sample;
}

// Appends the samples of one group, opening a new unit where they do not fit.
void AppendGroup(const PlanOptions& options, WorkKind kind, int64_t step,
                 PolicyVersion min_version, const Prompt& prompt, int replicas,
                 std::vector<WorkUnit>& units) {
  const auto unit_size = static_cast<size_t>(options.unit_size);
  if (units.empty() ||
      units.back().samples.size() + static_cast<size_t>(replicas) > unit_size) {
    WorkUnit unit;
    unit.id = UnitId(kind, step, static_cast<int>(units.size()));
    unit.kind = kind;
    unit.step = step;
    unit.min_policy_version = min_version;
    unit.sampling = options.sampling;
    units.push_back(std::move(unit));
  }
  for (int replica = 0; replica < replicas; ++replica) {
    units.back().samples.push_back(
        MakeSample(options, kind, step, prompt, replica));
  }
}

}  // namespace

absl::Status ValidatePlan(const PlanOptions& options) {
  std::vector<std::string> problems;
  if (options.prompts_per_step < 1 ||
      options.training.size() < static_cast<size_t>(options.prompts_per_step)) {
    problems.push_back(absl::StrCat(
        "data.train: expected at least generation.prompts_per_step = ",
        options.prompts_per_step, " prompts, got ", options.training.size()));
  }
  if (options.group_size < 1 || options.unit_size < options.group_size) {
    problems.push_back(absl::StrCat(
        "generation.unit_size: a unit holds whole groups; expected at least "
        "generation.group_size = ",
        options.group_size, ", got ", options.unit_size));
  }
  if (options.total_steps < 1) problems.emplace_back("run.steps: must be >= 1");
  std::set<std::string> ids;
  for (const Prompt& prompt : options.training) {
    if (!ids.insert(prompt.id).second) {
      problems.push_back(
          absl::StrCat("data.train: prompt id ", prompt.id, " occurs twice"));
    }
  }
  std::set<std::string> held;
  for (const Prompt& prompt : options.heldout) {
    if (ids.contains(prompt.id) || !held.insert(prompt.id).second) {
      problems.push_back(absl::StrCat(
          "data.heldout: prompt id ", prompt.id,
          ids.contains(prompt.id) ? " is trained on" : " occurs twice"));
    }
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
}

const char* Name(WorkKind kind) {
  return kind == WorkKind::kTraining ? "train" : "eval";
}

std::string SampleKey(const std::string& run, WorkKind kind, int64_t step,
                      const std::string& prompt_id, int replica) {
  return Sha256Hex(absl::StrCat(run, "|", Name(kind), "|", step, "|", prompt_id,
                                "|", replica));
}

uint64_t SampleSeed(int64_t run_seed, const std::string& key) {
  return Hash64(absl::StrCat(run_seed, "|", key));
}

std::string UnitId(WorkKind kind, int64_t step, int index) {
  return absl::StrCat(Name(kind), "/", step, "/", index);
}

bool IsEvaluated(const PlanOptions& options, int64_t step, int64_t last_step) {
  if (options.evaluation_every <= 0 || options.heldout.empty()) return false;
  return step % options.evaluation_every == 0 || step == last_step;
}

std::vector<int64_t> PromptOrder::Shuffled(int64_t epoch) const {
  std::vector<int64_t> order(static_cast<size_t>(count_));
  std::iota(order.begin(), order.end(), 0);
  uint64_t state = Hash64(absl::StrCat("prompts|", seed_, "|", epoch));
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[NextRandom(state) % i]);
  }
  return order;
}

void PromptOrder::MoveTo(int64_t epoch) {
  if (epoch < epoch_) epoch_ = -1;
  while (epoch_ < epoch) {
    ++epoch_;
    std::vector<int64_t> next = Shuffled(epoch_);
    // A step that spans the border began with the tail of the epoch before:
    // its second part starts with prompts that are not in that tail.
    const int64_t tail = (epoch_ * count_) % per_step_;
    const auto head = static_cast<size_t>(tail == 0 ? 0 : per_step_ - tail);
    if (head > 0) {
      const std::unordered_set<int64_t> used(order_.end() - tail, order_.end());
      std::vector<int64_t> first;
      std::vector<int64_t> rest;
      for (const int64_t prompt : next) {
        const bool fits = first.size() < head && !used.contains(prompt);
        (fits ? first : rest).push_back(prompt);
      }
      first.insert(first.end(), rest.begin(), rest.end());
      next = std::move(first);
    }
    order_ = std::move(next);
  }
}

std::vector<int64_t> PromptOrder::Step(int64_t step) {
  std::vector<int64_t> prompts;
  const int64_t begin = (step - 1) * per_step_;
  for (int64_t at = begin; at < begin + per_step_; ++at) {
    MoveTo(at / count_);
    prompts.push_back(order_[static_cast<size_t>(at % count_)]);
  }
  return prompts;
}

std::vector<WorkUnit> PlanTraining(const PlanOptions& options,
                                   PromptOrder& order, int64_t step) {
  const PolicyVersion oldest =
      std::max<int64_t>(0, step - 1 - options.max_staleness);
  std::vector<WorkUnit> units;
  for (const int64_t prompt : order.Step(step)) {
    AppendGroup(options, WorkKind::kTraining, step, oldest,
                options.training[static_cast<size_t>(prompt)],
                options.group_size, units);
  }
  return units;
}

std::vector<WorkUnit> PlanEvaluation(const PlanOptions& options, int64_t step) {
  size_t count = options.heldout.size();
  if (options.evaluation_prompts > 0) {
    count = std::min(count, static_cast<size_t>(options.evaluation_prompts));
  }
  std::vector<WorkUnit> units;
  for (size_t i = 0; i < count; ++i) {
    AppendGroup(options, WorkKind::kEvaluation, step, step, options.heldout[i],
                /*replicas=*/1, units);
  }
  return units;
}

}  // namespace mpo::orchestrator
