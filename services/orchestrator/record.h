// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "mpo/types/refinement.h"
#include "mpo/types/rollout.h"
#include "mpo/types/verdict.h"

namespace mpo::orchestrator {

// Rows of the ledger as plain values. Times are wall clock, milliseconds.

struct RunRecord {
  std::string name = {};
  int64_t seed = 0;
  int64_t total_steps = 0;
  int64_t last_step = 0;  // total_steps, or less once the run was stopped.
  std::string config_sha256 = {};
  std::string data_sha256 = {};
  bool paused = false;
  std::string reason = {};  // Why it is paused.
  bool stopped = false;
  int64_t starts = 0;       // Times a process opened the ledger to run it.
  int64_t lease_epoch = 0;  // Of the last grant.
  std::string initial_rubric = {};
  std::string active_rubric = {};
};

struct MemberRecord {
  std::string id = {};
  std::string role = {};
  std::string name = {};
  std::string incarnation = {};
  std::string address = {};
};

enum class StepState { kPlanned, kAssigned, kCommitted };

struct StepRecord {
  int64_t step = 0;
  StepState state = StepState::kPlanned;
  std::string rubric_sha256 = {};
  int64_t rubric_version = 0;
  // An operator resumed the run although too many samples are unscorable.
  bool waived = false;
  std::string weights_sha256 = {};
  std::map<std::string, double> metrics = {};
  std::map<std::string, double> seconds = {};  // By phase.
  absl::Time planned = absl::InfinitePast();
  absl::Time committed = absl::InfinitePast();
};

enum class UnitState { kReady, kLeased, kComplete };

struct UnitRecord {
  std::string id = {};
  WorkKind kind = WorkKind::kTraining;
  int64_t step = 0;
  UnitState state = UnitState::kReady;
  int64_t grants = 0;
  int64_t failures = 0;        // Expired or given back since the last resume.
  int64_t lease_epoch = 0;     // Of the last grant; 0 = never granted.
  std::string member_id = {};  // Of the last grant.
  double generation_seconds = 0;
  double judging_seconds = 0;
};

// What a unit's holder reports for one sample.
struct Outcome {
  std::string sample_key = {};
  std::string text = {};
  int64_t response_tokens = 0;
  FinishReason finish_reason = FinishReason::kLength;
  PolicyVersion policy_version = 0;  // Oldest of its token spans.
  Verdict verdict = {};
  std::optional<Verdict> monitor = {};      // Under the initial rubric.
  std::optional<BaseStatistics> base = {};  // Absent: not measured.
  bool operator==(const Outcome&) const = default;
};

// An outcome with what the orchestrator derives from it.
struct MeasuredOutcome {
  Outcome outcome = {};
  std::optional<double> gold = {};  // 0..10; absent: not measurable.
  std::optional<double> proxy =
      {};  // 10 x share of the initial rubric's maximum.
};

struct SampleRecord {
  Sample sample = {};
  WorkKind kind = WorkKind::kTraining;
  std::string unit_id = {};
  UnitState unit_state = UnitState::kReady;
  int64_t attempts = 0;                        // Grants of its unit.
  std::optional<MeasuredOutcome> result = {};  // Set once complete.
  std::optional<int64_t> used_in_step = {};    // Step it was assigned to.
};

// "draft", "active", "retired" or "rejected".
enum class RubricState { kDraft, kActive, kRetired, kRejected };

struct RubricRecord {
  std::string sha256 = {};
  std::optional<int64_t> version = {};  // Absent for rejected ones.
  std::string parent = {};              // Empty for the initial one.
  RubricState state = RubricState::kDraft;
  std::string origin = {};  // "initial", "refinement" or "operator".
  std::vector<std::string> reasons = {};
  int64_t first_step = 0;  // First step judged with it; 0 = none.
  std::string yaml = {};
};

// kOpen until it ended; kUnchanged: the review found nothing to change;
// kRejected: the proposal was not valid; kFailed: no proposal came.
enum class RefinementState { kOpen, kAccepted, kUnchanged, kRejected, kFailed };

struct RefinementRecord {
  std::string id = {};
  int64_t step = 0;  // Committed step after which it was started.
  RefinementState state = RefinementState::kOpen;
  std::string base_rubric = {};    // Active when it was started.
  std::string result_rubric = {};  // Proposed; empty = none.
  std::vector<RubricChange> changes = {};
  std::vector<std::string> analyses = {};
  std::string memory = {};                // Handed to the next one.
  std::vector<std::string> reasons = {};  // Why it was rejected or failed.
  int64_t attempts = 0;
};

struct EventRecord {
  int64_t id = 0;
  absl::Time at = absl::InfinitePast();
  std::string kind = {};
  std::string detail = {};
};

// Where the run stands; every field is derived from the ledger.
struct Progress {
  int64_t planned_step = 0;     // Last planned step.
  int64_t assigned_step = 0;    // Last step whose batch is assigned.
  int64_t committed_step = 0;   // Last committed step.
  int64_t evaluated_step = -1;  // Last step with a planned evaluation.
  int64_t open_evaluations = 0;
  std::optional<int64_t> open_refinement = {};  // Its step.
  int64_t samples_done = 0;  // Of the step after the committed one.
  int64_t samples_planned = 0;
};

const char* Name(StepState state);
const char* Name(UnitState state);
const char* Name(RubricState state);
const char* Name(RefinementState state);
const char* Name(FinishReason reason);

}  // namespace mpo::orchestrator
