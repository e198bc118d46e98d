// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "mpo/types/refinement.h"
#include "services/orchestrator/plan.h"
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

// Decisions of the orchestrator as pure functions over what the ledger holds.

struct Policy {
  int max_staleness = 0;
  int meta_every = 0;    // 0 = the rubric never changes.
  bool barrier = false;  // The next step waits for an open refinement.
  double max_unscorable = 0.5;
};

enum class Phase { kGenerating, kTraining, kRefining, kPaused, kFinished };

// The step to plan now; nullopt: none yet. Step t is planned once step
// t - 1 - max_staleness is committed and no barrier refinement is open.
std::optional<int64_t> StepToPlan(const Policy& policy, const RunRecord& run,
                                  const Progress& progress);

// Policy versions whose evaluation is to be planned now, ascending.
std::vector<int64_t> EvaluationsToPlan(const PlanOptions& plan,
                                       const RunRecord& run,
                                       const Progress& progress);

// All steps committed, all evaluations complete, no refinement open.
bool IsFinished(const PlanOptions& plan, const RunRecord& run,
                const Progress& progress);

Phase PhaseOf(const Policy& policy, const PlanOptions& plan,
              const RunRecord& run, const Progress& progress);

// True when committing `step` starts a refinement: every k-th step but the
// last, unless one is still open or the run is stopped.
bool RefinementDue(const Policy& policy, const RunRecord& run, int64_t step,
                   const Progress& progress);

// Last step of a run that is stopped now: the planned steps are finished, but
// not those that wait behind a pause.
int64_t LastStepWhenStopped(const RunRecord& run, const Progress& progress);

// Share of the samples whose verdict is unscorable; 0 for no samples.
double UnscorableShare(const std::vector<SampleRecord>& samples);

// 10 x raw / maximum of the verdict that is under the initial rubric; absent
// where there is none or it is unscorable.
std::optional<double> ProxyOf(const Outcome& outcome,
                              const std::string& initial_rubric);

// Means over a step's batch: reward, proxy, gold (each over the samples that
// have one, absent without any), unscorable (count), tokens, response_tokens
// (mean), tokens_per_second (of generation, seconds of all units added up).
std::map<std::string, double> StepMeans(
    const std::vector<SampleRecord>& samples,
    const std::vector<UnitRecord>& units);

// heldout_proxy, heldout_gold and heldout_unscorable of an evaluation.
std::map<std::string, double> EvaluationMeans(
    const std::vector<SampleRecord>& samples);

// Steps whose samples a refinement after `step` reads: [first, last].
struct EvidenceSteps {
  int64_t baseline_first = 1;
  int64_t baseline_last = 1;
  int64_t recent_first = 1;
  int64_t recent_last = 1;
};
EvidenceSteps EvidenceStepsOf(int64_t step, int64_t evidence,
                              int64_t samples_per_step);

// The scored ones of `samples` as evidence, at most `limit`: the last ones
// when `newest`, the first ones otherwise; always in the order given.
std::vector<EvidenceItem> ToEvidence(const std::vector<SampleRecord>& samples,
                                     int64_t limit, bool newest);

// Pause before a unit that was given back `failures` times is leased again.
absl::Duration RetryPause(absl::Duration first, int64_t failures);

}  // namespace mpo::orchestrator
