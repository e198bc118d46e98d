// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/types/refinement.h"
#include "mpo/types/rubric.h"
#include "services/orchestrator/plan.h"
#include "services/orchestrator/record.h"
#include "services/orchestrator/schedule.h"

namespace mpo::orchestrator {

class Ledger;
class OrchestratorMetrics;

struct EngineOptions {
  PlanOptions plan;
  Policy policy;
  std::string task = {};
  std::string config_sha256 = {};  // Members with another one are refused.
  // Where metrics.jsonl, samples.jsonl and rubrics/ go; empty = nowhere.
  std::filesystem::path directory = {};
  bool monitor_initial = true;
  int evidence = 64;      // Samples a refinement sees.
  int max_criteria = 12;  // Criteria a proposal may have.
  absl::Duration lease = absl::Seconds(10);
  absl::Duration member_ttl = absl::Seconds(10);
  // Before a unit that was given back is leased again; doubles.
  absl::Duration retry_pause = absl::Milliseconds(500);
  int max_failures = 5;     // Of a unit; one more pauses the run.
  int refine_attempts = 5;  // Tries a refinement gets.
  absl::Duration refine_pause = absl::Seconds(1);  // Between them; doubles.
};

// Asks the meta-reward server; blocks, ends early on stop. The codes of
// mpo.v1.MetaRewardService.Refine.
using AskRefinement = std::function<absl::StatusOr<RefinementProposal>(
    const RefinementRequest& request, std::stop_token stop)>;

// Gold of a response, 0..10; nullopt where it cannot be measured.
using GoldMeasure = std::function<std::optional<double>(
    const Prompt& prompt, const std::string& response,
    const BaseStatistics& base)>;

// What the engine needs to know of rubrics (mpo::rubric in the process).
struct RubricRules {
  std::function<absl::StatusOr<Rubric>(const std::string& yaml)> parse;
  std::function<std::string(const Rubric&)> yaml;
  std::function<std::string(const Rubric&)> sha256;
  // Every problem; empty = valid.
  std::function<std::vector<std::string>(const Rubric&)> validate;
};

struct EngineParts {
  Ledger& ledger;
  Clock& clock;
  OrchestratorMetrics& metrics;
  AskRefinement refine;
  GoldMeasure gold;
  RubricRules rubrics;
};

struct Registration {
  std::string member_id;
  absl::Duration ttl;
  std::string run_id;
};

struct LeaseReply {
  std::optional<WorkUnit> unit = {};
  absl::Duration lease = absl::ZeroDuration();
  bool finished = false;
};
using LeaseDone = std::function<void(absl::StatusOr<LeaseReply>)>;

struct BatchReply {
  struct Batch {
    int64_t step = 0;
    std::vector<std::string> sample_keys;  // In plan order.
    std::string rubric_sha256;
  };
  std::optional<Batch> batch = {};
  bool finished = false;
};
using BatchDone = std::function<void(absl::StatusOr<BatchReply>)>;

// A unit's result: outcomes, or why it is given back.
struct Completion {
  std::string member_id = {};
  std::string unit_id = {};
  int64_t lease_epoch = 0;
  std::optional<std::string> failure = {};
  bool draining = false;  // Given back unharmed, because its holder goes.
  std::vector<Outcome> outcomes = {};
  double generation_seconds = 0;
  double judging_seconds = 0;
};

struct StepCommit {
  int64_t step = 0;
  std::string weights_sha256 = {};
  std::map<std::string, double> metrics = {};
  std::map<std::string, double> seconds = {};
};

struct StoredRubric {
  Rubric rubric;
  std::string sha256;
  std::optional<int64_t> version;
};

// What WatchRun tells.
struct RunStatus {
  std::string run_id = {};
  Phase phase = Phase::kGenerating;
  int64_t step = 0;  // Last committed.
  int64_t total_steps = 0;
  std::string rubric_sha256 = {};
  int64_t rubric_version = 0;
  std::map<std::string, double> metrics = {};  // Of the last committed step.
  int64_t samples_done = 0;
  int64_t samples_planned = 0;
  std::string reason = {};  // Why it is paused.
  bool operator==(const RunStatus&) const = default;
};
using StatusChanged = std::function<void(const std::optional<RunStatus>&)>;

}  // namespace mpo::orchestrator
