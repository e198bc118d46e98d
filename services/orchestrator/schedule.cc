// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/schedule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace mpo::orchestrator {
namespace {

constexpr absl::Duration kLongestPause = absl::Seconds(30);

// Mean of a value that some samples lack.
struct Mean {
  double sum = 0;
  int64_t count = 0;
  void Add(std::optional<double> value) {
    if (!value.has_value()) return;
    sum += *value;
    ++count;
  }
  void Put(const char* name, std::map<std::string, double>& into) const {
    if (count > 0) into[name] = sum / static_cast<double>(count);
  }
};

}  // namespace

std::optional<int64_t> StepToPlan(const Policy& policy, const RunRecord& run,
                                  const Progress& progress) {
  const int64_t next = progress.planned_step + 1;
  if (run.paused || run.stopped || next > run.last_step) return std::nullopt;
  if (progress.committed_step < next - 1 - policy.max_staleness) {
    return std::nullopt;
  }
  if (policy.barrier && progress.open_refinement.has_value()) {
    return std::nullopt;
  }
  return next;
}

std::vector<int64_t> EvaluationsToPlan(const PlanOptions& plan,
                                       const RunRecord& run,
                                       const Progress& progress) {
  std::vector<int64_t> steps;
  for (int64_t step = progress.evaluated_step + 1;
       step <= progress.committed_step; ++step) {
    if (IsEvaluated(plan, step, run.last_step)) steps.push_back(step);
  }
  return steps;
}

bool IsFinished(const PlanOptions& plan, const RunRecord& run,
                const Progress& progress) {
  return progress.committed_step >= run.last_step &&
         progress.open_evaluations == 0 && !progress.open_refinement &&
         EvaluationsToPlan(plan, run, progress).empty();
}

Phase PhaseOf(const Policy& policy, const PlanOptions& plan,
              const RunRecord& run, const Progress& progress) {
  if (IsFinished(plan, run, progress)) return Phase::kFinished;
  if (run.paused) return Phase::kPaused;
  const int64_t next = progress.committed_step + 1;
  if (progress.assigned_step >= next) return Phase::kTraining;
  if (policy.barrier && progress.open_refinement &&
      progress.planned_step < next) {
    return Phase::kRefining;
  }
  return Phase::kGenerating;
}

bool RefinementDue(const Policy& policy, const RunRecord& run, int64_t step,
                   const Progress& progress) {
  return policy.meta_every > 0 && step % policy.meta_every == 0 &&
         step < run.last_step && !run.stopped && !progress.open_refinement;
}

int64_t LastStepWhenStopped(const RunRecord& run, const Progress& progress) {
  if (run.stopped) return run.last_step;
  return run.paused ? progress.assigned_step : progress.planned_step;
}

double UnscorableShare(const std::vector<SampleRecord>& samples) {
  if (samples.empty()) return 0;
  const auto unscorable =
      std::count_if(samples.begin(), samples.end(), [](const auto& sample) {
        return sample.result && !sample.result->outcome.verdict.scored;
      });
  return static_cast<double>(unscorable) / static_cast<double>(samples.size());
}

std::optional<double> ProxyOf(const Outcome& outcome,
                              const std::string& initial_rubric) {
  const Verdict* verdict = nullptr;
  if (outcome.verdict.rubric_sha256 == initial_rubric) {
    verdict = &outcome.verdict;
  } else if (outcome.monitor.has_value()) {
    verdict = &*outcome.monitor;
  }
  if (verdict == nullptr || !verdict->scored || !(verdict->maximum > 0)) {
    return std::nullopt;
  }
  return 10 * verdict->raw / verdict->maximum;
}

std::map<std::string, double> StepMeans(
    const std::vector<SampleRecord>& samples,
    const std::vector<UnitRecord>& units) {
  std::map<std::string, double> means;
  Mean reward;
  Mean proxy;
  Mean gold;
  double unscorable = 0;
  double tokens = 0;
  for (const SampleRecord& sample : samples) {
    if (!sample.result) continue;
    const Verdict& verdict = sample.result->outcome.verdict;
    if (verdict.scored) reward.Add(verdict.reward);
    if (!verdict.scored) unscorable += 1;
    proxy.Add(sample.result->proxy);
    gold.Add(sample.result->gold);
    tokens += static_cast<double>(sample.result->outcome.response_tokens);
  }
  reward.Put("reward", means);
  proxy.Put("proxy", means);
  gold.Put("gold", means);
  means["unscorable"] = unscorable;
  means["tokens"] = tokens;
  if (!samples.empty()) {
    means["response_tokens"] = tokens / static_cast<double>(samples.size());
  }
  double seconds = 0;
  for (const UnitRecord& unit : units) seconds += unit.generation_seconds;
  if (seconds > 0) means["tokens_per_second"] = tokens / seconds;
  return means;
}

std::map<std::string, double> EvaluationMeans(
    const std::vector<SampleRecord>& samples) {
  const std::map<std::string, double> means = StepMeans(samples, {});
  std::map<std::string, double> heldout;
  for (const char* name : {"proxy", "gold", "unscorable"}) {
    const auto found = means.find(name);
    if (found != means.end()) {
      heldout[absl::StrCat("heldout_", name)] = found->second;
    }
  }
  return heldout;
}

EvidenceSteps EvidenceStepsOf(int64_t step, int64_t evidence,
                              int64_t samples_per_step) {
  const int64_t steps = std::clamp<int64_t>(
      evidence / std::max<int64_t>(1, samples_per_step), 1, step);
  return {.baseline_first = 1,
          .baseline_last = steps,
          .recent_first = step - steps + 1,
          .recent_last = step};
}

std::vector<EvidenceItem> ToEvidence(const std::vector<SampleRecord>& samples,
                                     int64_t limit, bool newest) {
  std::vector<EvidenceItem> items;
  for (const SampleRecord& sample : samples) {
    if (!sample.result || !sample.result->outcome.verdict.scored) continue;
    const Outcome& outcome = sample.result->outcome;
    // Without a measurement there is no log-prob to show; 0 would be a lie.
    if (!outcome.base) continue;
    EvidenceItem item;
    item.sample_key = sample.sample.key;
    item.step = sample.sample.step;
    item.prompt = sample.sample.prompt;
    item.response = outcome.text;
    item.verdict = outcome.verdict;
    item.base_mean_logprob = outcome.base->mean_logprob;
    items.push_back(std::move(item));
  }
  const auto excess = static_cast<int64_t>(items.size()) - limit;
  if (excess > 0 && newest) items.erase(items.begin(), items.begin() + excess);
  if (excess > 0 && !newest) items.erase(items.end() - excess, items.end());
  return items;
}

absl::Duration RetryPause(absl::Duration first, int64_t failures) {
  if (failures <= 0) return absl::ZeroDuration();
  const int64_t doublings = std::min<int64_t>(failures - 1, 20);
  return std::min(first * static_cast<double>(int64_t{1} << doublings),
                  kLongestPause);
}

}  // namespace mpo::orchestrator
